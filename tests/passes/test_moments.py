"""Statistics of affine functions of x become statistics of x, where that is exact."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.moments import moments
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], y[N, C, *S], a[N], b[N], c[C], m: matrix[C, C], k: mask[N], w[N]\n"
# An expression, and how the statistic in it is computed.
REWRITTEN = {
    "mean(a * x + b over C)": """
        %1 : [N, S] = mean(x over C)
        %2 : [N, S] = mul(%1, a)
        %3 : [N, S] = add(%2, b)
    """,
    "var(a * x + b over C)": """
        %1 : [N, S] = var(x over C)
        %2 : [N] = mul(a, a)
        %3 : [N, S] = mul(%2, %1)
    """,
    "var(x / a over C)": """
        %1 : [N] = div(1, a)
        %2 : [N, S] = var(x over C)
        %3 : [N] = mul(%1, %1)
        %4 : [N, S] = mul(%3, %2)
    """,
    "mean(x + a * x over C)": """
        %scale : [N] = add(1, a)
        %1 : [N, S] = mean(x over C)
        %2 : [N, S] = mul(%1, %scale)
    """,
    "mean((x - a)^2 over C)": """
        %1 : [N, S] = mean(x over C)
        %2 : [N, S] = sub(%1, a)
        %3 : [N, S] = var(x over C)
        %4 : [N, S] = mul(%2, %2)
        %5 : [N, S] = add(%3, %4)
    """,
    "mean((x - mean(x over C))^2 over C)": """
        %1 : [N, S] = var(x over C)
    """,
    "sum((x - mean(x over C))^2 over C)": """
        %1 : [N, S] = var(x over C)
        %2 : [] = count(over C)
        %3 : [N, S] = mul(%1, %2)
    """,
    "mean((a * x)^2 over C)": """
        %1 : [N, S] = second(x about 0 over C)
        %2 : [N] = mul(a, a)
        %3 : [N, S] = mul(%2, %1)
    """,
    "var(a * x over C, about = b)": """
        %1 : [N, S] = mean(x over C)
        %2 : [N, S] = mul(%1, a)
        %3 : [N, S] = var(x over C)
        %4 : [N] = mul(a, a)
        %5 : [N, S] = mul(%4, %3)
        %offset : [N, S] = sub(%2, b)
        %6 : [N, S] = mul(%offset, %offset)
        %7 : [N, S] = add(%5, %6)
    """,
    # c varies within the pool: x is measured where it does not, and the rest is done on that.
    "mean(c * x over C, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = mul(%1, c)
        %3 : [N] = mean(%2 over C)
    """,
    "var(c * x over C, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = mul(%1, c)
        %3 : [N, C] = var(x over S)
        %4 : [C] = mul(c, c)
        %5 : [N, C] = mul(%4, %3)
        %6 : [N] = mean(%5 over C)
        %7 : [N] = var(%2 over C)
        %8 : [N] = add(%6, %7)
    """,
    "var(x - mean(x over C: blocks(2)) over C: blocks(2))": """
        %1 : [N, C/blocks(2), S] = var(x over C: blocks(2))
    """,
}


def statistic(expression: str) -> str:
    """All bindings but the last, which spreads the statistic over x."""
    text = after(f"{INPUTS}output x * {expression}", simplify, moments)
    return "\n".join(text.split("\n")[:-2])


@pytest.mark.parametrize("expression", REWRITTEN)
def test_rewritten(expression: str) -> None:
    same(statistic(expression), REWRITTEN[expression])


KEPT = {
    "a mask": "var(a * x over C, *S where k)",
    "a weight": "mean(a * x over C, *S weight w)",
    "a coefficient that varies everywhere in the pool": "var(c * x over C)",
    "a centre that varies within the pool": "mean((x - mean(x over N))^2 over C)",
    "finer cells than the pool": "var(x - mean(x over C: blocks(4)) over C: blocks(2))",
    "a given matrix": "var(a * x over C: m)",
    "another statistic": "max(a * x over C)",
    "a function that is not affine": "var(tanh(x) over C)",
    "a product of two wide values": "mean(x * y over C)",
    "a sum of two wide values": "mean(x + y over C)",
    "a choice: the other side may be NaN": "mean(where(a > 0, x, 0) over C)",
    "plain squares of x": "mean(x^2 over C)",
}


@pytest.mark.parametrize("why", KEPT)
def test_kept(why: str) -> None:
    text = f"{INPUTS}output x * {KEPT[why]}"
    assert after(text, simplify, moments) == after(text, simplify)


def test_a_mean_of_sums_of_squares_is_a_sum_of_variances() -> None:
    """Along the axis of the centre first: then only a table of graphs by features is summed."""
    text = """
        input x[V, D], batch: index[V]
        let c = x - mean(x over V: batch)
        output x / mean(sum(c^2 over D) over V: batch)
    """
    same(
        after(text, simplify, moments),
        """
        %1 : [V/batch, D] = var(x over V: batch)
        %2 : [V/batch] = sum(%1 over D)
        %3 : [V, D] = div(x, %2)
        output %3
        """,
    )


def test_empty_groups_have_no_shift() -> None:
    """The mean of x + c over an empty group is zero, not c; a scale does no such harm."""
    inputs = "input x[V, D], c[D], batch: index[V]\noutput x * "
    shifted = f"{inputs}mean(x + c over V: batch)"
    assert after(shifted, simplify, moments) == after(shifted, simplify)
    scaled = after(f"{inputs}mean(x * c over V: batch)", simplify, moments)
    assert "mean(x over V: batch)" in scaled


def test_the_second_look_of_graph_norm_is_spared() -> None:
    text = """
        input x[V, C], batch: index[V]
        reduce V: batch
        shift alpha[C] = 1
    """
    same(
        after(text, simplify, moments),
        """
        mean : [V/batch, C] = mean(x over V: batch)
        centre : [V/batch, C] = mul(alpha, mean)
        %1 : [V/batch, C] = var(x over V: batch)
        %offset : [V/batch, C] = sub(mean, centre)
        %2 : [V/batch, C] = mul(%offset, %offset)
        var : [V/batch, C] = add(%1, %2)
        %3 : [V, C] = sub(x, centre)
        %4 : [V/batch, C] = add(var, eps)
        %rstd : [V/batch, C] = rsqrt(%4)
        %5 : [V, C] = mul(%3, %rstd)
        output %5
        """,
    )
