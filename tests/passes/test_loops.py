"""What is the same in all steps of a loop is computed before it."""

from __future__ import annotations

import pytest
from programs import after

from metanorm.passes.loops import loops
from metanorm.passes.simplify import simplify


def before_loop(step: str) -> str:
    """What the pass computes before a loop over matrices p with this step."""
    text = f"""
        input x[N, C, D], w[N], v[N, C]
        let   p[N, C, D] = x
        repeat 3 {{ p = {step} }}
        output p
    """
    return after(text, simplify, loops).partition("repeat")[0]


def test_what_does_not_change_is_computed_before() -> None:
    before = before_loop("p * exp(x) + sum(p over C)")
    assert "exp(x)" in before and "sum" not in before


SCALED = "sum(p[D -> E] * x[C -> E] over E)"


def test_a_scale_of_a_sum_becomes_part_of_a_factor() -> None:
    for step in (f"{SCALED} / w", f"0.5 * {SCALED} / w", f"p - {SCALED} / w"):
        before = before_loop(step)
        assert "div(%1, w)" in before, step
    before = before_loop(f"w * {SCALED}")
    assert "mul(%1, w)" in before


@pytest.mark.parametrize(
    "step",
    [
        "sum(p[D -> E] * p[C -> E] over E) / w",  # no factor from outside
        f"{SCALED} / sum(p over C, D)",  # a scale that changes
        f"{SCALED} / v",  # a scale with another axis than the factor
        f"{SCALED} / 3",  # a number costs nothing
        f"w / {SCALED}",  # not a scale
    ],
)
def test_no_other_scale_does(step: str) -> None:
    before = before_loop(step)
    assert "div(" not in before
