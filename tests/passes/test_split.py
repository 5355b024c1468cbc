"""Blocks become axes, unless the axis is needed whole."""

from __future__ import annotations

import pytest
from programs import after, axes, lowered, same, shown

from metanorm.passes.split import split

SIZES = {
    "blocks(2)": ["C = (C.outer, C.inner)", "C.outer = 2", "C.inner = (size(C) // 2)"],
    "chunks(2)": ["C = (C.outer, C.inner)", "C.outer = (size(C) // 2)", "C.inner = 2"],
    "interleave(2)": ["C = (C.outer, C.inner)", "C.outer = (size(C) // 2)", "C.inner = 2"],
}


@pytest.mark.parametrize("matrix", SIZES)
def test_a_regular_partition_splits_its_axis(matrix: str) -> None:
    text = f"input x[N, C]\noutput x - mean(x over C: {matrix})"
    pooled, kept = ("outer", "inner") if matrix.startswith("inter") else ("inner", "outer")
    same(
        after(text, split),
        f"""
        %1 : [N, C.{kept}] = mean(x over C.{pooled})
        %2 : [N, C.outer, C.inner] = sub(x, %1)
        output %2
        """,
    )
    assert axes(split(lowered(text))) == ["N", *SIZES[matrix]]


def test_the_whole_axis_may_be_pooled_beside_its_blocks() -> None:
    text = "input x[N, C]\noutput x - mean(x over C: blocks(2)) - var(x over C)"
    same(
        after(text, split),
        """
        %1 : [N, C.outer] = mean(x over C.inner)
        %2 : [N, C.outer, C.inner] = sub(x, %1)
        %3 : [N] = var(x over C.outer, C.inner)
        %4 : [N, C.outer, C.inner] = sub(%2, %3)
        output %4
        """,
    )


def test_two_axes_are_split_one_after_the_other() -> None:
    text = "input x[N, C]\noutput x - mean(x over N: chunks(2), C: blocks(2))"
    same(
        after(text, split),
        """
        %1 : [N.outer, C.outer] = mean(x over N.inner, C.inner)
        %2 : [N.outer, N.inner, C.outer, C.inner] = sub(x, %1)
        output %2
        """,
    )


def test_blocks_count_once_for_each_of_their_elements() -> None:
    text = "input x[N, C]\noutput x - sum(mean(x over C: blocks(2)) over C)"
    same(
        after(text, split),
        """
        %1 : [N, C.outer] = mean(x over C.inner)
        %2 : [N, C.outer, C.inner] = expand(%1 to C.inner)
        %3 : [N] = sum(%2 over C.outer, C.inner)
        %4 : [N, C.outer, C.inner] = sub(x, %3)
        output %4
        """,
    )


def test_masks_weights_and_counts_are_split_too() -> None:
    text = """
        input x[N, C], keep: mask[C], w[C]
        let a = mean(x over C: blocks(2) where keep weight w)
        output x * a / count(over C: blocks(2))
    """
    same(
        after(text, split),
        """
        a : [N, C.outer] = mean(x over C.inner where keep weight w)
        %1 : [N, C.outer, C.inner] = mul(x, a)
        %2 : [] = count(over C.inner)
        %3 : [N, C.outer, C.inner] = div(%1, %2)
        output %3
        """,
    )


def test_parameters_live_on_the_parts() -> None:
    text = "input x[N, C]\nreduce C: blocks(2)\nshift none\naffine weight[C]"
    same(
        after(text, split),
        """
        var : [N, C.outer] = second(x about 0 over C.inner)
        %1 : [N, C.outer] = add(var, eps)
        %rstd : [N, C.outer] = rsqrt(%1)
        %2 : [N, C.outer, C.inner] = mul(x, %rstd)
        %3 : [N, C.outer, C.inner] = mul(%2, weight)
        output %3
        """,
    )


BLOCKS = "mean(x over C: blocks(2))"
NOT_SPLIT = {
    "two different cuts": f"{BLOCKS} * mean(x over C: blocks(4))",
    "blocks and chunks": f"{BLOCKS} * mean(x over C: chunks(2))",
    "a position along the axis": f"{BLOCKS} * position(C)",
    "softmax along the axis": f"{BLOCKS} * softmax(x over C)",
    "a renamed axis": f"{BLOCKS} * sum(x[C -> D] over D)",
    "an axis that a rename makes": f"{BLOCKS} * mean(z[E -> C] over C)",
    "a row of the axis": f"{BLOCKS} * t[0]",
    "a matrix over the same axis": f"{BLOCKS} * mean(x over C: m)",
    "an index": "mean(x over N: label)",
    "no partition": "mean(x over C)",
}


@pytest.mark.parametrize("why", NOT_SPLIT)
def test_an_axis_that_is_needed_whole_stays(why: str) -> None:
    text = f"""
        input x[N, C = 4], m: matrix[C, C], label: index[N], z[N, E]
        param t[C] = 1
        output x * {NOT_SPLIT[why]}
    """
    assert after(text, split) == shown(lowered(text))


def test_an_axis_inside_a_repeat_stays() -> None:
    text = f"input x[N, C]\nlet y = x\nrepeat 3 {{ y = y - {BLOCKS.replace('x', 'y')} }}\noutput y"
    assert axes(split(lowered(text))) == axes(lowered(text))
    assert after(text, split) == shown(lowered(text))


def test_an_axis_that_the_spec_has_split_stays() -> None:
    text = "input x[N, C]\naxis C = (G = 2, D)\noutput x - mean(x over D)"
    assert after(text, split) == shown(lowered(text))


@pytest.mark.parametrize(
    "step", ["sum(x over C)", "mean(mean(x over C: blocks(2)) over C)", "mean(d * x over C)"]
)
def test_what_a_loop_uses_stays_whole(step: str) -> None:
    """The steps of a loop are left as they are, and so must be the axes that they know."""
    program = lowered(
        f"""input x[N, C]
        let d[N] = 1
        repeat 3 {{ d = d + {step} }}
        output (x - mean(x over C: blocks(2))) * d"""
    )
    assert not any(axis.parts for axis in split(program).axes)
