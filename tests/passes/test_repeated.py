"""What is larger only by copies: weighed statistics of cells, and sums of coefficients."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.repeated import repeated
from metanorm.passes.simplify import simplify

INPUTS = """input x[N, C, *S], y[N, C, *S], g[N, K], h[C, K], b[K], w[N, C], k: mask[N, K],
    l: mask[N], batch: index[N]
"""
# An output, and what computes it; a value that is not copied has the axis in the end.
NARROW = {
    "sum over N, *S weighed by g": (
        "sum(x over N, *S weight g)",
        """
        %1 : [N, C] = sum(x over S)
        %2 : [C, K] = sum(%1 over N weight g)
        """,
    ),
    "mean over N, *S where k": (
        "mean(x over N, *S where k)",
        """
        %1 : [N, C] = mean(x over S)
        %2 : [C, K] = mean(%1 over N where k)
        """,
    ),
    "variance, of what is within cells and between them": (
        "var(x over N, *S where l weight g)",
        """
        %1 : [N, C] = mean(x over S)
        %between : [C, K] = var(%1 over N where l weight g)
        %2 : [N, C] = var(x over S)
        %within : [C, K] = mean(%2 over N where l weight g)
        %3 : [C, K] = add(%within, %between)
        """,
    ),
    "blocks of what weighs the same": (
        "mean(x over N, C: blocks(2) weight g)",
        """
        %1 : [N, C/blocks(2), S] = mean(x over C: blocks(2))
        %2 : [C/blocks(2), S, K] = mean(%1 over N weight g)
        """,
    ),
    "a sum of scaled copies": (
        "sum(x * g over K)",
        """
        %1 : [N] = sum(g over K)
        %2 : [N, C, S] = mul(x, %1)
        """,
    ),
    "a mean of moved copies": (
        "mean(b - x over K)",
        """
        %1 : [] = mean(b over K)
        %2 : [N, C, S] = sub(%1, x)
        """,
    ),
    # About a centre that lies among the others, so that no large mean is multiplied out.
    "a sum about centres": (
        "sum(g * (x - h) over K)",
        """
        %1 : [C] = mean(h over K)
        %2 : [C] = stop(%1)
        %3 : [C, K] = sub(%2, h)
        %4 : [N, C, K] = mul(%3, g)
        %5 : [N, C, S] = sub(x, %2)
        %6 : [N] = sum(g over K)
        %7 : [N, C, S] = mul(%5, %6)
        %8 : [N, C] = sum(%4 over K)
        %9 : [N, C, S] = add(%7, %8)
        """,
    ),
    "a sum about one centre": (
        "sum((x - w) / b + h over K)",
        """
        %1 : [N, C, S] = sub(x, w)
        %2 : [K] = div(1, b)
        %3 : [] = sum(%2 over K)
        %4 : [N, C, S] = mul(%1, %3)
        %5 : [C] = sum(h over K)
        %6 : [N, C, S] = add(%4, %5)
        """,
    ),
}


def computed(value: str) -> str:
    """What remains to compute a value, without the result."""
    text = after(f"{INPUTS}output x, s = {value}", simplify, repeated)
    return "\n".join(text.split("\n")[:-2])


@pytest.mark.parametrize("what", NARROW)
def test_narrow(what: str) -> None:
    value, wanted = NARROW[what]
    same(computed(value), wanted)


UNTOUCHED = {
    "a weight on axes that the value has": "mean(x over N, *S weight w)",
    "a weight that varies wherever is pooled": "mean(x over N weight g)",
    "cells of several sizes": "mean(x over N: batch weight h)",
    "no copies": "sum(x * w over C)",
    "copies of two values": "sum(x * g + y * b over K)",
    "a function of copies": "sum(exp(x * b) over K)",
    "a coefficient as large as the value": "sum(x * (y * b) over K)",
    "extremes": "max(x over N, *S weight g)",
}


@pytest.mark.parametrize("why", UNTOUCHED)
def test_untouched(why: str) -> None:
    text = f"{INPUTS}output x, s = {UNTOUCHED[why]}"
    assert after(text, simplify, repeated) == after(text, simplify)
