"""Intervals: what the lints may rely on, and that no value ever lies outside."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import PROGRAMS
from from_text import from_lines

from metanorm.ir.ranges import Range, ranges
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret

INPUTS = """input x[N, C]
    param w = 0.5 in [0, 1], free = 1
"""
POSITIVE = (
    "exp(x)",
    "softplus(x)",
    "sigmoid(x)",
    "1 - sigmoid(x)",
    "var(x over C) + eps",
    "sqrt(x^2 + eps)",
    "max(abs(x), eps)",
    "eps * 2",
    "exp(x)^free",
    "exp(x) / softplus(x)",
    "exp(x) * eps",
    "where(x > 0, exp(x), 1)",
    "1 + x * x",
    "size(C)",
    "x^2 + w + 1",
    "mode(train: exp(x), eval: eps)",
    "softmax(x over C)",
)
MAYBE_ZERO = (
    "var(x over C)",
    "std(x over C)",
    "abs(x)",
    "relu(x)",
    "x^2",
    "x * x",
    "w",
    "l2(x over C)",
    "l1(x over C)",
    "count(over C)",
    "sqrt(abs(x))",
    "mean(exp(x) over C where x > 0)",
    "position(C)",
    "relu(x) * exp(x)",
    "abs(x) / exp(x)",
    "max(exp(x) over C where x > 0)",
)
ANYTHING = ("x", "free", "mean(x over C)", "x - eps", "tanh(x)", "log(exp(x))", "x^3", "1 - w * 2")


def output(expression: str) -> Range:
    program = from_lines(f"{INPUTS}output x, found = {expression}")
    return ranges(program)[program.outputs[1][1]]


@pytest.mark.parametrize("expression", POSITIVE)
def test_positive(expression: str) -> None:
    assert output(expression).positive


@pytest.mark.parametrize("expression", MAYBE_ZERO)
def test_not_negative_but_maybe_zero(expression: str) -> None:
    actual = output(expression)
    assert actual.low == 0
    assert not actual.positive


@pytest.mark.parametrize("expression", ANYTHING)
def test_not_known_to_be_positive(expression: str) -> None:
    assert output(expression).low < 0


def test_union_is_open_only_where_both_are() -> None:
    open_, closed = Range(0, 1, True), Range(0, 2)
    assert open_.union(closed) == Range(0, 2, False)
    assert open_.union(Range(0, 3, True)) == Range(0, 3, True)
    assert open_.union(Range(1, 2)) == Range(0, 2, True)


def test_bounded_parameters_have_their_interval() -> None:
    assert output("w") == Range(0, 1)
    assert output("free") == Range(-math.inf, math.inf)


@pytest.mark.parametrize("expression", [*POSITIVE, *MAYBE_ZERO, *ANYTHING])
def test_no_value_lies_outside(expression: str) -> None:
    program = from_lines(f"{INPUTS}output x, found = {expression}")
    actual = ranges(program)[program.outputs[1][1]]
    x = torch.tensor([[-3.0, -1e-9, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0]], dtype=torch.float64)
    params = {"w": torch.tensor(0.25), "free": torch.tensor(-2.0)}
    for training in (True, False):
        call = Call({"x": x}, params, hypers={"eps": 1e-5}, training=training)
        value = interpret(program, call).outputs["found"]
        assert bool((value >= actual.low).all() & (value <= actual.high).all())
        assert not (actual.positive and bool((value <= 0).any()))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_value_has_a_range(name: str) -> None:
    program = PROGRAMS[name]
    actual = ranges(program)
    assert actual.keys() == {let.name for let in program.body}
    assert all(r.low <= r.high for r in actual.values())
