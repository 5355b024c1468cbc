"""The first and the last position of an axis as sums."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.positions import positions

MADE = {
    "input x[N, C, T]\noutput x - x[T = 0]": """
        %1 : [T] = position(T)
        %2 : bool[T] = eq(%1, 0)
        %3 : [N, C, T] = where(%2, x, 0)
        %4 : [N, C] = sum(%3 over T)
        %5 : [N, C, T] = sub(x, %4)
        output %5
    """,
    "input x[N, T, C]\nlet m = mean(x over C)\noutput x - m[T = -1]": """
        m : [N, T] = mean(x over C)
        %1 : [T] = position(T)
        %2 : bool[T] = eq(%1, (size(T) - 1))
        %3 : [N, T] = where(%2, m, 0)
        %4 : [N] = sum(%3 over T)
        %5 : [N, T, C] = sub(x, %4)
        output %5
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, positions), MADE[text])


@pytest.mark.parametrize(
    "text",
    [
        "input x[N, K = 3]\noutput x - x[K = -1]",  # there surely is one
        "input x[N, T, C]\noutput x - x[T = 1]",  # there may be none
        "input x[N, C], w[K, C]\noutput x - w[K = 0]",  # nor here
    ],
)
def test_left_alone(text: str) -> None:
    program = lowered(text)
    assert positions(program) is program
