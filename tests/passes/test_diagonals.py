"""A variance is the diagonal of a covariance of the same pools."""

from __future__ import annotations

import pytest
from programs import after

from metanorm.passes.diagonals import diagonals
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], y[N, C, *S], a[C]\n"
COVARIANCE = "sum((x - mean(x over *S)) * (x - mean(x over *S))[C -> D] over *S)"


def test_a_variance_is_read_from_the_covariance() -> None:
    for product in (f"var(x over *S) * {COVARIANCE}", f"{COVARIANCE} * var(x over *S)"):
        for more in ("", f", c = {COVARIANCE}"):
            text = f"{INPUTS}output x, p = {product}{more}"
            actual = after(text, simplify, diagonals)
            assert "var(" not in actual and actual.count("over S)") == 3  # mean, sum and count


@pytest.mark.parametrize(
    "outputs",
    [
        f"p = var(y over *S) * {COVARIANCE}",
        f"p = var(x over N, *S) * {COVARIANCE}",
        f"p = var(x over *S, about = 0) * {COVARIANCE}",
        "p = var(x over *S) * sum((x - a) * (x - a)[C -> D] over *S)",
        "p = var(x over *S) * sum((x - mean(x over *S))^2 over *S)",
        # Who asks for variances alone has no covariance computed, nor a NaN of other channels.
        f"v = var(x over *S), c = {COVARIANCE}",
        f"p = var(x over *S) * {COVARIANCE}, v = var(x over *S)",
        f"p = var(x over *S) + mode(train: {COVARIANCE}, eval: 1)",
        f"p = where(flag, {COVARIANCE}, var(x over *S))",
    ],
)
def test_other_statistics_are_measured(outputs: str) -> None:
    text = f"{INPUTS}output x, {outputs}"
    arguments = "flag = true"
    assert after(text, simplify, diagonals, arguments=arguments) == after(
        text, simplify, arguments=arguments
    )
