"""Sums of products about several centres: the data is multiplied once, about its mean."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.products import products
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], y[N, C, *S], a[C], b[N, C], w[*S]\n"


def covariance(centre: str, other: str | None = None) -> str:
    """The sum of products of differences from these centres, for each pair of channels."""
    return f"sum((x - {centre}) * (x - {other or centre})[C -> D] over *S)"


def test_two_centres_are_one_look_at_the_data() -> None:
    text = f"{INPUTS}output x, s = {covariance('a')}, t = {covariance('mean(x over *S)')}"
    same(
        after(text, simplify, products),
        """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C, S] = sub(x, %1)
        %3 : [N, S, D] = %2[C -> D]
        %4 : [N, C, S, D] = mul(%2, %3)
        %5 : [N, C, D] = sum(%4 over S)
        %6 : [N, C] = sub(%1, a)
        %7 : [N, D] = %6[C -> D]
        %8 : [N, C, D] = mul(%6, %7)
        %9 : [] = count(over S)
        %10 : [N, C, D] = mul(%8, %9)
        %11 : [N, C, D] = add(%5, %10)
        output x
        output %11
        output %5
        """,
    )


def test_factors_may_have_different_centres() -> None:
    text = f"{INPUTS}output x, s = {covariance('a', 'b')}, t = {covariance('b', 'a')}"
    actual = after(text, simplify, products)
    assert actual.count("over S)") == 3  # the mean, the sum, and the count
    assert "sub(%1, a)" in actual and "sub(%1, b)" in actual


UNTOUCHED = {
    "one centre": (covariance("a"), covariance("a")),
    "another value": (covariance("a"), covariance("b").replace("x", "y")),
    "other pools": (covariance("a"), covariance("b").replace("over *S", "over N, *S")),
    "a centre that varies in the sum": (covariance("w"), covariance("a", "w")),
    "weights": (covariance("a"), covariance("b").replace("*S)", "*S weight w)")),
}


@pytest.mark.parametrize("why", UNTOUCHED)
def test_untouched(why: str) -> None:
    first, second = UNTOUCHED[why]
    text = f"{INPUTS}output x, s = {first}, t = {second}"
    assert after(text, simplify, products) == after(text, simplify)
