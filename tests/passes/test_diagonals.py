"""A variance is the diagonal of a covariance of the same pools."""

from __future__ import annotations

import pytest
from programs import after

from metanorm.passes.diagonals import diagonals
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], y[N, C, *S], a[C]\n"
COVARIANCE = "sum((x - mean(x over *S)) * (x - mean(x over *S))[C -> D] over *S)"


def test_a_variance_is_read_from_the_covariance() -> None:
    for outputs in (
        f"v = var(x over *S), c = {COVARIANCE}",
        f"c = {COVARIANCE}, v = var(x over *S)",
    ):
        found = after(f"{INPUTS}output x, {outputs}", simplify, diagonals)
        assert "var(" not in found and found.count("over S)") == 3  # mean, sum and count


@pytest.mark.parametrize(
    "outputs",
    [
        f"v = var(y over *S), c = {COVARIANCE}",
        f"v = var(x over N, *S), c = {COVARIANCE}",
        f"v = var(x over *S, about = 0), c = {COVARIANCE}",
        "v = var(x over *S), c = sum((x - a) * (x - a)[C -> D] over *S)",
        "v = var(x over *S), c = sum((x - mean(x over *S))^2 over *S)",
    ],
)
def test_other_statistics_are_measured(outputs: str) -> None:
    text = f"{INPUTS}output x, {outputs}"
    assert after(text, simplify, diagonals) == after(text, simplify)
