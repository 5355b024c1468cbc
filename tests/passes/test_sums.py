"""What is constant in a pool leaves its sum; coarse sums are taken from fine ones."""

from __future__ import annotations

import pytest
import torch
from gradients import point, values
from programs import after, lowered, same

from metanorm.passes.simplify import simplify
from metanorm.passes.sums import sums

INPUTS = "input x[N, C, *S], y[N, C, *S], a[N], c[C], d[N, C], k: mask[N]\n"
# An expression with sums, and how it is computed.
REWRITTEN = {
    "sum(a * x over C)": """
        %1 : [N, S] = sum(x over C)
        %2 : [N, S] = mul(a, %1)
    """,
    "sum(-(a * x) over C)": """
        %1 : [N, S] = sum(x over C)
        %2 : [N, S] = mul(a, %1)
        %3 : [N, S] = neg(%2)
    """,
    "sum(-x * -y over C)": """
        %1 : [N, C, S] = mul(x, y)
        %2 : [N, S] = sum(%1 over C)
    """,
    # c varies within the pool: x is measured where it does not, and the rest is done on that.
    "sum(c * x over C, *S)": """
        %1 : [N, C] = sum(x over S)
        %2 : [N, C] = mul(%1, c)
        %3 : [N] = sum(%2 over C)
    """,
    "sum(a * (c * x) over C, *S)": """
        %1 : [N, C] = sum(x over S)
        %2 : [N, C] = mul(%1, c)
        %3 : [N] = sum(%2 over C)
        %4 : [N] = mul(a, %3)
    """,
    "sum(x * y * c over C, *S)": """
        %1 : [N, C, S] = mul(x, y)
        %2 : [N, C] = sum(%1 over S)
        %3 : [N, C] = mul(%2, c)
        %4 : [N] = sum(%3 over C)
    """,
    # Two that vary along different axes leave S alone to be measured.
    "sum(a * c * x over N, C, *S)": """
        %1 : [N, C] = sum(x over S)
        %2 : [N, C] = mul(%1, a)
        %3 : [N, C] = mul(%2, c)
        %4 : [] = sum(%3 over N, C)
    """,
    # The same for what is narrow already.
    "sum(d * c over N, C)": """
        %1 : [C] = sum(d over N)
        %2 : [C] = mul(%1, c)
        %3 : [] = sum(%2 over C)
    """,
    # One look at x, on the finest cells that are needed.
    "(sum(x over C, *S) + sum(x over N, *S))": """
        %1 : [N, C] = sum(x over S)
        %2 : [N] = sum(%1 over C)
        %3 : [C] = sum(%1 over N)
        %4 : [N, C] = add(%2, %3)
    """,
    "(sum(x over C: blocks(4)) + sum(x over C))": """
        %1 : [N, C/blocks(4), S] = sum(x over C: blocks(4))
        %2 : [N, S] = sum(%1 over C/blocks(4))
        %3 : [N, C/blocks(4), S] = add(%1, %2)
    """,
    # Only once it is factored is it known that both measure x.
    "(sum(a * x over C, *S) + sum(x over *S))": """
        %1 : [N, C] = sum(x over S)
        %2 : [N] = sum(%1 over C)
        %3 : [N] = mul(a, %2)
        %4 : [N, C] = add(%3, %1)
    """,
}


@pytest.mark.parametrize("expression", REWRITTEN)
def test_rewritten(expression: str) -> None:
    actual = after(f"{INPUTS}output x * {expression}", simplify, sums)
    same("\n".join(actual.split("\n")[:-2]), REWRITTEN[expression])


@pytest.mark.parametrize("expression", REWRITTEN)
def test_the_same_number(expression: str) -> None:
    program = simplify(lowered(f"{INPUTS}output x * {expression}"))
    here = point(program)
    actual = values(sums(program), here.call)
    torch.testing.assert_close(actual, here.outputs, rtol=1e-12, atol=1e-12)


KEPT = {
    "a mask, which may hide a NaN": "sum(x * a over C where k)",
    "another statistic": "mean(c * x over C, *S)",
    "a sum within": "sum(x + c over C)",
    "what varies everywhere in the pool": "sum(x * c over C)",
    "a square": "sum(x * x over C)",
    "pools without common cells": "(sum(x over C) + sum(x over N))",
}


@pytest.mark.parametrize("why", KEPT)
def test_kept(why: str) -> None:
    text = f"{INPUTS}output x * {KEPT[why]}"
    assert after(text, simplify, sums) == after(text, simplify)


def test_a_sum_over_all_rows_is_one_of_sums_over_groups() -> None:
    text = """
        input x[V, C], batch: index[V], c[C]
        output x * sum(x over V: batch) * sum(x * c over V)
    """
    same(
        after(text, simplify, sums),
        """
        %1 : [V/batch, C] = sum(x over V: batch)
        %2 : [V, C] = mul(x, %1)
        %3 : [C] = sum(%1 over V/batch)
        %4 : [C] = mul(c, %3)
        %5 : [V, C] = mul(%2, %4)
        output %5
        """,
    )


def test_a_value_of_each_group_is_constant_in_it_and_in_no_larger_pool() -> None:
    text = "input x[V, C], batch: index[V], t[V]\nlet m = mean(t over V: batch)\noutput x * "
    assert "= sum(x over V: batch)" in after(f"{text}sum(m * x over V: batch)", simplify, sums)
    assert "= sum(x over V" not in after(f"{text}sum(m * x over V)", simplify, sums)
