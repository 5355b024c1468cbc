"""The smaller factors of products take the scales, and one difference of the data is enough."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.factors import factors
from metanorm.passes.fold import fold
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C, *S], w[C, D], a[C], b[C], c[N, C], big[N, C, *S]\n"
PRODUCT = "sum(w * x[C -> D] over D)"


def test_scales_go_to_the_matrix() -> None:
    same(
        after(f"{INPUTS}output {PRODUCT} * a + b", simplify, fold, factors),
        """
        %1 : [N, S, D] = x[C -> D]
        %scale : [C, D] = mul(w, a)
        %2 : [N, C, S, D] = mul(%scale, %1)
        %3 : [N, C, S] = sum(%2 over D)
        %4 : [N, C, S] = add(%3, b)
        output %4
        """,
    )


@pytest.mark.parametrize("scale", ["c", "big"])
def test_scales_with_other_axes_do_not(scale: str) -> None:
    text = f"{INPUTS}output {PRODUCT} * {scale} + b"
    assert after(text, simplify, fold, factors) == after(text, simplify, fold)


def test_a_product_that_something_else_reads_stays() -> None:
    text = f"{INPUTS}let y = {PRODUCT}\noutput y * a, z = y"
    assert after(text, simplify, fold, factors) == after(text, simplify, fold)


def test_one_difference_from_a_centre_is_enough() -> None:
    text = f"""{INPUTS}
        let m = mean(x over *S)
        let gap = x - m
        let cov = sum(gap * gap[C -> D] over *S)
        output sum(w * cov * (x - a)[C -> D] over D)
    """
    actual = after(text, simplify, fold, factors)
    assert "sub(m, a)" in actual and "sub(x, a)" not in actual and actual.count("sub(x") == 1


@pytest.mark.parametrize("matrix", ["w", "mode(train: cov, eval: w)", "where(flag, w, cov)"])
def test_a_matrix_without_the_covariance_takes_in_no_mean(matrix: str) -> None:
    """A NaN of another sample would come with it."""
    text = f"""{INPUTS}
        let m = mean(x over N, *S)
        let cov = sum((x - m) * (x - m)[C -> D] over N, *S)
        output sum({matrix} * (x - a)[C -> D] over D), v = cov
    """
    before = after(text, simplify, fold, arguments="flag = true")
    assert after(text, simplify, fold, factors, arguments="flag = true") == before


def test_without_a_covariance_the_difference_stays() -> None:
    text = f"""{INPUTS}
        let m = mean(x over *S)
        output sum(w * (x - a)[C -> D] over D), v = sum((x - m)^2 over *S)
    """
    assert after(text, simplify, fold, factors) == after(text, simplify, fold)
