"""Scalars: known early where they can be, and written as in the language."""

from __future__ import annotations

import math

import pytest

from metanorm.ir.scalar import (
    Apply,
    Const,
    Hyper,
    Scalar,
    SizeOf,
    apply,
    evaluate,
    leaves,
    number_text,
    scalar_text,
)

TWO, EPS, SIZE = Const(2), Hyper("eps"), SizeOf("C")


@pytest.mark.parametrize(
    ("scalar", "text"),
    [
        (TWO, "2"),
        (Const(1e-05), "1e-05"),
        (Const(0.5), "0.5"),
        (EPS, "eps"),
        (SIZE, "size(C)"),
        (Apply("add", (EPS, TWO)), "(eps + 2)"),
        (Apply("floordiv", (SIZE, TWO)), "(size(C) // 2)"),
        (Apply("neg", (EPS,)), "-(eps)"),
        (Apply("pow", (TWO, Apply("max", (EPS, SIZE)))), "(2 ^ max(eps, size(C)))"),
    ],
)
def test_text(scalar: Scalar, text: str) -> None:
    assert scalar_text(scalar) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-3.0, "-3"), (0.25, "0.25"), (1e20, "1e+20"), (1e14, "100000000000000")],
)
def test_numbers_are_written_as_short_as_they_can_be(value: float, text: str) -> None:
    assert number_text(value) == text


def test_constants_are_computed_at_once() -> None:
    assert apply("mul", TWO, Const(3)) == Const(6)
    assert apply("sqrt", Const(16)) == Const(4)


@pytest.mark.parametrize(
    ("function", "numbers", "result"),
    [
        ("div", (2, 0), math.inf),
        ("div", (-2, 0), -math.inf),
        ("div", (0, 0), math.nan),
        ("sqrt", (-1,), math.nan),
        ("log", (0,), -math.inf),
        ("log", (-1,), math.nan),
        ("exp", (1000,), math.inf),
        ("pow", (10, 400), math.inf),
        ("pow", (-10, 401), -math.inf),
        ("pow", (0, -1), math.inf),
        ("pow", (-8, 0.5), math.nan),  # a complex number
        ("mul", (1e300, 1e300), math.inf),
    ],
)
def test_constants_are_what_they_are_as_tensors(
    function: str, numbers: tuple[float, ...], result: float
) -> None:
    actual = apply(function, *(Const(n) for n in numbers))
    assert isinstance(actual, Const)
    assert actual.value == pytest.approx(result, nan_ok=True)


def test_what_is_not_known_yet_stays_an_application() -> None:
    assert apply("add", EPS, TWO) == Apply("add", (EPS, TWO))


def test_evaluation_reads_names_and_sizes() -> None:
    scalar = Apply("add", (Apply("mul", (EPS, SIZE)), Apply("min", (TWO, Const(1)))))
    assert evaluate(scalar, {"eps": 0.5}, {"C": 8}) == 5


@pytest.mark.parametrize("missing", [EPS, SIZE])
def test_what_is_not_known_is_a_key_error(missing: Scalar) -> None:
    with pytest.raises(KeyError):
        evaluate(Apply("neg", (missing,)), {}, {})


def test_leaves_are_all_that_a_scalar_reads() -> None:
    scalar = Apply("add", (Apply("neg", (EPS,)), Apply("mul", (SIZE, EPS))))
    assert list(leaves(scalar)) == [EPS, SIZE, EPS]
