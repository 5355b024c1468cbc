"""Runs of an axis as values on whole axes. That meanings stay, tests of gradients ask."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.runs import run_obstacles, runs

MADE = {
    # A pool over a run has a mask; what is left alone needs no choice of its own.
    "input x[N, C]\naxis C = (A = 2) + B\noutput concat(x[A] - mean(x[A] over A), x[B] over C)": """
        %1 : bool[C] = inside(A)
        %2 : [N] = mean(x over C where %1)
        %3 : [N, C] = sub(x, %2)
        %4 : [N, C] = where(%1, %3, x)
        output %4
    """,
    # The same map of both runs is one map of what is chosen.
    "input x[N, C]\naxis C = (A = 2) + B\nparam a[A] = 1, b[B] = 1\n"
    "output concat(x[A] * a, x[B] * b over C)": """
        %1 : [C] = concat(a of A over C)
        %2 : [C] = concat(b of B over C)
        %3 : bool[C] = inside(A)
        %4 : [C] = where(%3, %1, %2)
        %5 : [N, C] = mul(x, %4)
        output %5
    """,
    # A narrow result is cut out again; positions count from the start of their run.
    "input x[N, C]\naxis C = (A = 2) + B\noutput x, m = mean(x[B] * position(B) over N)": """
        %1 : [C] = position(C)
        %2 : [C] = sub(%1, 2)
        %3 : [N, C] = mul(x, %2)
        %4 : [C] = mean(%3 over N)
        %5 : [B] = %4[B]
        output x
        output %5
    """,
    # Moments of one value are measured once.
    "input x[N, C, S]\naxis C = (A = 2) + B\n"
    "output concat(x[A] - mean(x[A] over S), x[B] - mean(x[B] over N, S) over C)": """
        %1 : [N, C] = mean(x over S)
        %2 : [C] = mean(%1 over N)
        %3 : bool[C] = inside(A)
        %4 : [N, C] = where(%3, %1, %2)
        %5 : [N, C, S] = sub(x, %4)
        output %5
    """,
}
OBSTACLES = {
    "x + mean(x[A][A -> B] over N, B)": "beside another one",
    "concat(softmax(x[A] over A), x[B] over C)": "found along a run",
    "x, a = x[A]": "a result on a run of an axis, and on all others",
    "concat(x[A] - mean(x[A] over A: window(2)), x[B] over C)": "windows or groups",
}


@pytest.mark.parametrize("text", MADE)
def test_values_are_on_whole_axes(text: str) -> None:
    same(after(text, runs), MADE[text])


@pytest.mark.parametrize("output", OBSTACLES)
def test_what_stays_on_its_run(output: str) -> None:
    text = f"input x[N, C]\naxis C = (A = size(C) / 2) + B\noutput {output}"
    program = lowered(text)
    assert any(OBSTACLES[output] in reason for reason in run_obstacles(program))
    assert runs(program) == program
