"""Chains of affine maps become one map; what ends a chain, and what is kept apart."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.fold import fold
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, T], z[N, C, T], a[N], b[N], c[C], d[N, C]\n"
# An output, and the maps that are left. rescale(x, m, s, a, b) is a * b * (x - m) + s.
FOLDED = {
    "(x - b) * a + c": """
        %1 : [N, C, T] = rescale(x, b, c, a)
    """,
    "x * a * b": """
        %scale : [N] = mul(a, b)
        %1 : [N, C, T] = mul(x, %scale)
    """,
    "x + a + b": """
        %shift : [N] = add(a, b)
        %1 : [N, C, T] = add(x, %shift)
    """,
    "x - a - b": """
        %1 : [N] = add(a, b)
        %2 : [N, C, T] = sub(x, %1)
    """,
    "(x + 1) / a": """
        %1 : [N] = div(1, a)
        %2 : [N, C, T] = rescale(x, -1, 0, %1)
    """,
    "-(x - a) * b": """
        %scale : [N] = mul(-1, b)
        %1 : [N, C, T] = rescale(x, a, 0, %scale)
    """,
    "a - 2 * x": """
        %1 : [N, C, T] = rescale(x, 0, a, -2)
    """,
    # A shift before a scale is a centre, subtracted first: it may be much larger than the result.
    "(x + a) * b": """
        %1 : [N] = neg(a)
        %2 : [N, C, T] = rescale(x, %1, 0, b)
    """,
    "a * (x - b) + a * (x - c)": """
        %scale : [N] = add(a, a)
        %1 : [N] = stop(b)
        %2 : [N] = sub(%1, b)
        %shift : [N] = mul(%2, a)
        %3 : [N, C] = sub(%1, c)
        %shift2 : [N, C] = mul(%3, a)
        %shift3 : [N, C] = add(%shift, %shift2)
        %4 : [N, C, T] = rescale(x, %1, %shift3, %scale)
    """,
    # Zero times x stays in the program: it is NaN where x is not finite.
    "0 * x + a": """
        %1 : [N, C, T] = rescale(x, 0, a, 0)
    """,
    "(x - a) - (x - a)": """
        %1 : [N, C, T] = rescale(x, a, 0, 0)
    """,
    # A function that is not affine, or a wide operand, ends a chain and begins the next.
    "tanh(2 * x + a) * b + 1": """
        %1 : [N, C, T] = rescale(x, 0, a, 2)
        %2 : [N, C, T] = tanh(%1)
        %3 : [N, C, T] = rescale(%2, 0, 1, b)
    """,
    "((x - a) * b + z) * a": """
        %1 : [N, C, T] = rescale(x, a, 0, b)
        %2 : [N, C, T] = add(%1, z)
        %3 : [N, C, T] = mul(%2, a)
    """,
    "stop(2 * x + 1) * a + 1": """
        %1 : [N, C, T] = rescale(x, 0, 1, 2)
        %2 : [N, C, T] = stop(%1)
        %3 : [N, C, T] = rescale(%2, 0, 1, a)
    """,
    # A choice is no factor of zero: what is not chosen may be NaN.
    "where(a > 0, (x - a) * a, 0) * b": """
        %1 : bool[N] = gt(a, 0)
        %scale : [N] = mul(a, b)
        %2 : [N, C, T] = rescale(x, a, 0, %scale)
        %3 : [N, C, T] = where(%1, %2, 0)
    """,
    "where(a > 0, (x - a) * a, b) * b + 1": """
        %1 : bool[N] = gt(a, 0)
        %scale : [N] = mul(a, b)
        %2 : [N] = mul(b, b)
        %3 : [N] = add(%2, 1)
        %4 : [N, C, T] = rescale(x, a, 1, %scale)
        %5 : [N, C, T] = where(%1, %4, %3)
    """,
    "where(x > 0, (x - a) * a, 0) * b": """
        %1 : bool[N, C, T] = gt(x, 0)
        %2 : [N, C, T] = rescale(x, a, 0, a)
        %3 : [N, C, T] = where(%1, %2, 0)
        %4 : [N, C, T] = mul(%3, b)
    """,
    "mode(train: (x - a) * b, eval: (x - b) * a)": """
        %1 : [N] = mode(train: b, eval: a)
        %2 : [N] = mode(train: a, eval: b)
        %3 : [N, C, T] = rescale(x, %2, 0, %1)
    """,
    "mode(train: (x - a) * b, eval: x)": """
        %1 : [N, C, T] = rescale(x, a, 0, b)
        %2 : [N, C, T] = mode(train: %1, eval: x)
    """,
}


@pytest.mark.parametrize("output", FOLDED)
def test_folded(output: str) -> None:
    actual = after(f"{INPUTS}output {output}", simplify, fold)
    same(actual.rpartition("\n")[0], FOLDED[output])


def test_factors_join_unless_the_product_is_as_wide_as_x() -> None:
    """Layer norm: one factor for each row and one for each feature, never one for each element."""
    text = "input x[N, C], row[N], other[N], column[C]\noutput x * row * column * other"
    same(
        after(text, simplify, fold),
        """
        %scale : [N] = mul(row, other)
        %1 : [N, C] = rescale(x, 0, 0, %scale, column)
        output %1
        """,
    )


def test_a_third_factor_that_fits_nowhere_is_a_map_of_its_own() -> None:
    text = """
        input x[N, C, T], a[N, C], b[C, T], c[N, T]
        output x * a * b * c
    """
    same(
        after(text, simplify, fold),
        """
        %1 : [N, C, T] = rescale(x, 0, 0, a, b)
        %2 : [N, C, T] = mul(%1, c)
        output %2
        """,
    )


def test_a_parameter_as_wide_as_x_is_no_coefficient() -> None:
    text = "input x[N, C], w[N, C]\noutput (x + 1) * w"
    assert after(text, simplify, fold) == after(text, simplify)


def test_what_is_used_twice_is_computed_from_x_each_time() -> None:
    text = "input x[N, C], a[N]\nlet y = (x - a) * a\noutput y * 2 + 1, again = y"
    same(
        after(text, simplify, fold),
        """
        %scale : [N] = mul(a, 2)
        %1 : [N, C] = rescale(x, a, 1, %scale)
        y : [N, C] = rescale(x, a, 0, a)
        output %1
        output y
        """,
    )


def test_a_statistic_of_a_chain_is_taken_of_its_value() -> None:
    text = "input x[N, C]\nlet y = 2 * x + 1\noutput y - mean(y over C)"
    same(
        after(text, simplify, fold),
        """
        y : [N, C] = rescale(x, 0, 1, 2)
        %1 : [N] = mean(y over C)
        %2 : [N, C] = sub(y, %1)
        output %2
        """,
    )


def test_narrow_inputs_are_coefficients_themselves() -> None:
    """The condition of an adaptive norm is an input, but no value worth folding."""
    text = "input x[N, T, D], scale[N, D]\noutput x * (1 + scale)"
    same(
        after(text, simplify, fold),
        """
        %1 : [N, D] = add(1, scale)
        %2 : [N, T, D] = mul(x, %1)
        output %2
        """,
    )


def test_batch_norm_is_one_map_in_both_modes() -> None:
    text = "input x[N, C]\noutput affine(normalize(x over N track 0.1) per C)"
    actual = after(text, simplify, fold)
    assert actual.count("[N, C] =") == 1
    assert "[N, C] = rescale(x, %3, bias, %scale)" in actual
    assert "%3 : [C] = mode(train: %1, eval: running_mean if running_mean)" in actual


def test_a_mixture_of_two_norms_is_one_map() -> None:
    text = """
        input x[N, C, *S]
        param gate[C] = 1
        output gate * normalize(x over N, *S) + (1 - gate) * normalize(x over *S)
    """
    actual = after(text, simplify, fold)
    assert [line.split(" = ")[1] for line in actual.split("\n") if "[N, C, S] =" in line] == [
        "rescale(x, %1, %shift, %scale3)"
    ]
