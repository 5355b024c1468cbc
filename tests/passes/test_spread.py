"""Outputs of groups that are returned for each position."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.spread import spread

GROUPS = "input x[V, C], batch: index[V]\nlet m = mean(x over V: batch)\n"
MADE = {
    GROUPS + "output x - m, m": """
        m : [V/batch, C] = mean(x over V: batch)
        %1 : [V, C] = sub(x, m)
        %2 : [V, C] = expand(m to V, C)
        output %1
        output %2
    """,
    GROUPS + "output x - m, n = count(over V: batch)": """
        m : [V/batch, C] = mean(x over V: batch)
        %1 : [V, C] = sub(x, m)
        %2 : [V/batch] = count(over V: batch)
        %3 : [V] = expand(%2 to V)
        output %1
        output %3
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, spread), MADE[text])


@pytest.mark.parametrize(
    "outputs", ["x - m", "x - m, cells(m)", "x - m, n = mean(x over V)", "x - m, y = x"]
)
def test_left(outputs: str) -> None:
    text = GROUPS + f"output {outputs}"
    program = lowered(text)
    assert spread(program) is program
