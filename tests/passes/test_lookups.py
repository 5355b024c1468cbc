"""Rows of tables that an index chooses, as values of groups."""

from __future__ import annotations

import pytest
from programs import after, axes, lowered, same

from metanorm.passes.lookups import lookups

LABELS = "input x[N, C], l: index[N] of K = num_k\nparam g[K, C] = 1\n"
MADE = {
    LABELS + "output x * g[l]": """
        %1 : [N/l, C] = g[K -> N/l]
        %2 : [N, C] = mul(x, %1)
        output %2
    """,
    # Each sample counts as often as it is there.
    LABELS + "output x * mean(g[l] over N)": """
        %1 : [N/l, C] = g[K -> N/l]
        %2 : [N, C] = expand(%1 to N)
        %3 : [C] = mean(%2 over N)
        %4 : [N, C] = mul(x, %3)
        output %4
    """,
    LABELS + "let r = g[l]\noutput x, r = r": """
        r : [N/l, C] = g[K -> N/l]
        %1 : [N, C] = expand(r to N)
        output x
        output %1
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, lookups), MADE[text])


def test_groups_are_an_axis() -> None:
    assert "N/l" in axes(lookups(lowered(LABELS + "output x * g[l]")))


LEFT = {
    "one row for all": "input x[N, C], l: index[] of K = num_k\nparam g[K, C] = 1\noutput x * g[l]",
    "a table with the axis of its index": """
        input x[N, C], l: index[N] of K = num_k
        param g[K, N = num_n] = 1
        output x * g[l]
    """,
    "an index with two axes": """
        input x[N, T, C], l: index[N, T] of K = num_k
        param g[K, C] = 1
        output x * g[l]
    """,
}


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name: str) -> None:
    program = lowered(LEFT[name])
    assert lookups(program) is program
