"""Every statistic as one that a loop can accumulate."""

from __future__ import annotations

import pytest
import torch
from gradients import point, values
from programs import after, lowered, same

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.nodes import Pool
from metanorm.passes.reductions import reductions
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], k: mask[N], w[N], a[N]\n"
# An expression, and how it is computed.
REWRITTEN = {
    "mean(x^2 over C)": """
        %1 : [N, C, S] = mul(x, x)
        %2 : [N, S] = mean(%1 over C)
    """,
    "var(x over C, about = a)": """
        %1 : [N, C, S] = sub(x, a)
        %2 : [N, C, S] = mul(%1, %1)
        %3 : [N, S] = mean(%2 over C)
    """,
    # About zero there is nothing to take off.
    "var(x over C, about = 0)": """
        %1 : [N, C, S] = mul(x, x)
        %2 : [N, S] = mean(%1 over C)
    """,
    "rms(x over C)": """
        %1 : [N, C, S] = mul(x, x)
        %2 : [N, S] = mean(%1 over C)
        %3 : [N, S] = root(%2)
    """,
    "std(x over N where k)": """
        %1 : [C, S] = var(x over N where k)
        %2 : [C, S] = root(%1)
    """,
    "l1(x over C)": """
        %1 : [N, C, S] = abs(x)
        %2 : [N, S] = sum(%1 over C)
    """,
    "l2(x over N weight w)": """
        %1 : [N, C, S] = mul(x, x)
        %2 : [C, S] = sum(%1 over N weight w)
        %3 : [C, S] = root(%2)
    """,
    # What weighs is summed; an axis that it does not have is counted.
    "count(over N where k)": """
        %1 : [N] = where(k, 1, 0)
        %2 : [] = sum(%1 over N)
    """,
    "count(over N, C weight w)": """
        %1 : [] = sum(w over N)
        %2 : [] = count(over C)
        %3 : [] = mul(%1, %2)
    """,
    "count(over N, C where k weight w)": """
        %1 : [N] = where(k, w, 0)
        %2 : [] = sum(%1 over N)
        %3 : [] = count(over C)
        %4 : [] = mul(%2, %3)
    """,
    "count(over C where x > 0)": """
        %1 : bool[N, C, S] = gt(x, 0)
        %2 : [N, C, S] = where(%1, 1, 0)
        %3 : [N, S] = sum(%2 over C)
    """,
}


@pytest.mark.parametrize("expression", REWRITTEN)
def test_rewritten(expression: str) -> None:
    actual = after(f"{INPUTS}output x * {expression}", simplify, reductions)
    same("\n".join(actual.split("\n")[:-2]), REWRITTEN[expression])


@pytest.mark.parametrize("expression", REWRITTEN)
def test_the_same_number(expression: str) -> None:
    program = simplify(lowered(f"{INPUTS}output x * {expression}"))
    here = point(program)
    actual = values(reductions(program), here.call)
    torch.testing.assert_close(actual, here.outputs, rtol=1e-12, atol=1e-12)


KEPT = (
    "sum(x over C)",
    "mean(x over N where k)",
    "var(x over C)",
    "max(x over C)",
    "count(over C)",
)


@pytest.mark.parametrize("expression", KEPT)
def test_kept(expression: str) -> None:
    text = f"{INPUTS}output x * {expression}"
    assert after(text, simplify, reductions) == after(text, simplify)


def test_squares_are_taken_once() -> None:
    text = f"{INPUTS}output x * rms(x over C) * mean(x^2 over C)"
    same(
        after(text, simplify, reductions),
        """
        %1 : [N, C, S] = mul(x, x)
        %2 : [N, S] = mean(%1 over C)
        %3 : [N, S] = root(%2)
        %4 : [N, C, S] = mul(x, %3)
        %5 : [N, C, S] = mul(%4, %2)
        output %5
        """,
    )


NAMED = {
    "l1(x over C)": "size : [N, S] = sum(%1 over C)",
    "mean(x^2 over C)": "size : [N, S] = mean(%1 over C)",
    "count(over N where k)": "size : [] = sum(%1 over N)",
    "l2(x over C)": "size : [N, S] = root(%2)",
}


@pytest.mark.parametrize("expression", NAMED)
def test_names_of_the_spec_are_kept(expression: str) -> None:
    text = f"{INPUTS}let size = {expression}\noutput x * size"
    assert NAMED[expression] in after(text, simplify, reductions)


def test_no_other_statistic_is_left() -> None:
    text = "\n".join(f"  * {e}" for e in (*REWRITTEN, *KEPT)).strip("* \n")
    program = reductions(simplify(lowered(f"{INPUTS}output x * ({text})")))
    left = {let.op.statistic for let in program.body if isinstance(let.op, Pool)}
    assert left == set(ACCUMULATIONS) - {"min"}
