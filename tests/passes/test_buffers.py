"""Values that buffers follow, as buffers have them."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.buffers import buffers

MADE = {
    "input x[N, C, T]\nbuffer b[T, C] = 0\nupdate b = mean(x over N, T)\noutput x": """
        %1 : [C] = mean(x over N, T)
        %2 : [C, T] = expand(%1 to T)
        update b <- %2
        output x
    """,
    "input x[N, C, T]\nbuffer b[T, C] = 0\nlet m = max(x over N)\nupdate b = m\noutput x, m=m": """
        m : [C, T] = max(x over N)
        %1 : [C, T] = stop(m)
        update b <- %1
        output x
        output m
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, buffers), MADE[text])


@pytest.mark.parametrize(
    "text",
    [
        "buffer b[C] = 0\nupdate b = mean(x over N, T)",
        "buffer b[T, C] = 0\nupdate b = mean(x over N)",
    ],
)
def test_left_alone(text: str) -> None:
    program = lowered(f"input x[N, C, T]\n{text}\noutput x - b")
    assert buffers(program) is program
