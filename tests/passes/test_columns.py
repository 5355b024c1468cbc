"""Groups of channels where channels lie together: each is measured, then its group."""

from __future__ import annotations

import pytest
import torch
from gradients import point, values
from programs import after, lowered, same

from metanorm.ir.program import Program
from metanorm.ir.verify import verify
from metanorm.passes.columns import columns
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import optimize
from metanorm.passes.simplify import simplify
from metanorm.passes.split import split

INPUTS = "input x[N, C, *S], w[C], k: mask[N, *S]\n"
PARTS = ("C.outer", "C.inner")


def together(program: Program) -> Program:
    """The step, where it can be taken."""
    actual = columns(program, PARTS)
    assert actual is not None
    return actual


# An output, and how it is computed with the channels together.
REWRITTEN = {
    "x - sum(x over C: blocks(4), *S)": """
        %1 : [N, C.outer, C.inner] = sum(x over S)
        %2 : [N, C.outer] = sum(%1 over C.inner)
        %3 : [N, C.outer, C.inner] = expand(%2 to C.inner)
        %4 : [N, C.outer, C.inner, S] = sub(x, %3)
        output %4
    """,
    "x - mean(x over C: interleave(4), *S)": """
        %1 : [N, C.outer, C.inner] = mean(x over S)
        %2 : [N, C.inner] = mean(%1 over C.outer)
        %3 : [N, C.outer, C.inner] = expand(%2 to C.outer)
        %4 : [N, C.outer, C.inner, S] = sub(x, %3)
        output %4
    """,
    # The variance of a union is the mean of the variances plus the variance of the means.
    "x * var(x over C: blocks(4), *S)": """
        %1 : [N, C.outer, C.inner] = mean(x over S)
        %2 : [N, C.outer, C.inner] = var(x over S)
        %3 : [N, C.outer] = mean(%2 over C.inner)
        %4 : [N, C.outer] = var(%1 over C.inner)
        %5 : [N, C.outer] = add(%3, %4)
        %6 : [N, C.outer, C.inner] = expand(%5 to C.inner)
        %7 : [N, C.outer, C.inner, S] = mul(x, %6)
        output %7
    """,
    # A parameter of each channel has both parts already; a statistic of all or of each stays.
    "x * w - mean(x over C, *S) - sum(x over C: blocks(4), *S) - mean(x over N, *S)": """
        %1 : [N, C.outer, C.inner, S] = mul(x, w)
        %2 : [N] = mean(x over C.outer, C.inner, S)
        %3 : [N, C.outer, C.inner, S] = sub(%1, %2)
        %4 : [N, C.outer, C.inner] = sum(x over S)
        %5 : [N, C.outer] = sum(%4 over C.inner)
        %6 : [N, C.outer, C.inner] = expand(%5 to C.inner)
        %7 : [N, C.outer, C.inner, S] = sub(%3, %6)
        %8 : [C.outer, C.inner] = mean(x over N, S)
        %9 : [N, C.outer, C.inner, S] = sub(%7, %8)
        output %9
    """,
}


@pytest.mark.parametrize("output", REWRITTEN)
def test_rewritten(output: str) -> None:
    same(after(f"{INPUTS}output {output}", split, together), REWRITTEN[output])


@pytest.mark.parametrize("output", REWRITTEN)
def test_the_same_number(output: str) -> None:
    program = split(lowered(f"{INPUTS}output {output}"))
    here = point(program)
    actual = values(together(program), here.call)
    torch.testing.assert_close(actual, here.outputs, rtol=1e-12, atol=1e-12)


IMPOSSIBLE = {
    "nothing is left to measure first": "x - mean(x over C: blocks(4))",
    "parts of a channel may weigh differently": "x * mean(x over C: blocks(4), *S where k)",
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_impossible(why: str) -> None:
    program = split(lowered(f"{INPUTS}output {IMPOSSIBLE[why]}"))
    assert columns(program, PARTS) is None


def test_what_has_groups_and_positions_but_no_channels_tells_them_apart() -> None:
    """Repeated for each channel of a group, it would be as large as the data."""
    inputs = "input x[N, C = num_c, *S], u[N, *S]\naxis C = (G = 4, D)\n"
    for output in ("x * mean(x over N where (position(G) <= u))", "x * (position(G) * u)"):
        program = lowered(inputs + f"output {output}", "")
        assert columns(program, ("G", "D")) is None, output


def test_without_groups_there_is_nothing_to_do() -> None:
    text = f"{INPUTS}output x * w - mean(x over N, *S)"
    assert after(text, simplify, lambda p: columns(p, ("C",)) or p) == after(text, simplify)


def test_both_directions_of_group_norm() -> None:
    """With parameters and gradients, which stand for each channel, or are measured for it."""
    text = "input x[N, C, *S]\nreduce C: blocks(4), *S\naffine C"
    program = lowered(text)
    (both,) = directions(optimize(program), check=True)
    here = point(program)
    forward = values(both.forward, here.call)
    actual = together(both.forward)
    verify(actual)
    torch.testing.assert_close(values(actual, here.call), forward, rtol=1e-12, atol=1e-12)
    backward = together(both.backward)
    verify(backward)
    x = here.leaves["x"]
    further = {"d.output": torch.randn_like(x), **{name: forward[name] for name in both.kept}}
    wanted = here.derived(both.backward, further)
    torch.testing.assert_close(here.derived(backward, further), wanted, rtol=1e-11, atol=1e-11)
