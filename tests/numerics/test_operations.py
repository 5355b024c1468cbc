"""Every operation that a call computes, compiled in a small norm, against torch itself.

Random initial values are in test_initial_values.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm.ir.ops import Operation, public

F64 = torch.float64


def computed() -> list[Operation]:
    """The public rows that may stand in an equation."""
    return [row for row in public() if row.group != "draw"]


Reference = Callable[[Tensor, Tensor], Tensor]


class Case(NamedTuple):
    """An expression in x and y, both [N, C], and what it means."""

    expression: str
    reference: Reference
    positive: bool = False  # whether x and y must be
    runs: str = ""  # how an axis is cut, for an expression of its parts


def blocks(x: Tensor, count: int) -> Tensor:
    """The mean of each of `count` consecutive blocks of columns, given back to the columns."""
    size = x.shape[1] // count
    parts = [x[:, i * size : (i + 1) * size].mean(1, keepdim=True) for i in range(count)]
    return torch.cat([part.expand(-1, size) for part in parts], 1)


def modulo(x: Tensor, count: int) -> Tensor:
    """The mean of the columns that are equal modulo `count`, given back to them."""
    parts = [x[:, i::count].mean(1, keepdim=True) for i in range(count)]
    return torch.cat([parts[i % count] for i in range(x.shape[1])], 1)


def nearest(x: Tensor) -> Tensor:
    """The nearest whole number, with the gradient of x."""
    return x + (torch.floor(x + 0.5) - x).detach()


def by_steps(x: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """A state that moves from column to column."""
    states = []
    for column, share in zip(x.unbind(1), decay.unbind(1)):
        state = share * state + column
        states.append(state)
    return torch.stack(states, 1)


def near(x: Tensor, before: int, after: int) -> Tensor:
    """The mean of the columns around each, as far as there are any."""
    positions = range(x.shape[1])
    return torch.stack([x[:, max(0, i - before) : i + after + 1].mean(1) for i in positions], 1)


def standardized(x: Tensor, dim: int) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt()


OPERATORS = {
    "add": Case("x + y", lambda x, y: x + y),
    "sub": Case("x - y", lambda x, y: x - y),
    "mul": Case("x * y", lambda x, y: x * y),
    "div": Case("x / y", lambda x, y: x / y),
    "pow": Case("x^y", lambda x, y: x**y, positive=True),
    "neg": Case("-x", lambda x, y: -x),
    "lt": Case("(x < y) * x", lambda x, y: (x < y) * x),
    "le": Case("(x <= y) * x", lambda x, y: (x <= y) * x),
    "eq": Case("(x == max(x, y)) * x", lambda x, y: (x >= y) * x),
    "ne": Case("(x != max(x, y)) * x", lambda x, y: (x < y) * x),
    "ge": Case("(x >= y) * x", lambda x, y: (x >= y) * x),
    "gt": Case("(x > y) * x", lambda x, y: (x > y) * x),
}
ELEMENTWISE = {
    "sqrt": Case("sqrt(x)", lambda x, y: x**0.5, positive=True),
    "rsqrt": Case("rsqrt(x)", lambda x, y: x**-0.5, positive=True),
    "exp": Case("exp(x)", lambda x, y: math.e**x),
    "log": Case("log(x)", lambda x, y: x.log(), positive=True),
    "abs": Case("abs(x)", lambda x, y: x * x.detach().sign()),
    "sign": Case("sign(x) * y", lambda x, y: ((x > 0).to(F64) - (x < 0).to(F64)) * y),
    "round": Case("round(2 * x) * y", lambda x, y: nearest(2 * x) * y),
    "sin": Case("sin(x)", lambda x, y: x.sin()),
    "cos": Case("cos(x)", lambda x, y: (x + math.pi / 2).sin()),
    "tanh": Case("tanh(x)", lambda x, y: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
    "erf": Case("erf(x)", lambda x, y: 1 - torch.special.erfc(x)),
    "sigmoid": Case("sigmoid(x)", lambda x, y: 1 / (1 + (-x).exp())),
    "softplus": Case("softplus(x)", lambda x, y: (1 + x.exp()).log()),
    "relu": Case("relu(x)", lambda x, y: (x > 0) * x),
    "silu": Case("silu(x)", lambda x, y: x / (1 + (-x).exp())),
    "gelu": Case("gelu(x)", lambda x, y: x * (1 + torch.erf(x / math.sqrt(2))) / 2),
    "clamp": Case("clamp(x, -1, max = 0.5) * y", lambda x, y: x.clip(-1, 0.5) * y),
    "min": Case("min(x, y)", lambda x, y: torch.where(x < y, x, y)),
    "max": Case("max(x, y)", lambda x, y: torch.where(x > y, x, y)),
    "where": Case("where(x > y, x^2, y)", lambda x, y: torch.where(x > y, x * x, y)),
}
STATISTICS = {
    "sum": Case("sum(x over C)", lambda x, y: x @ torch.ones(x.shape[1], dtype=F64)),
    "mean": Case("mean(x over C)", lambda x, y: x.sum(1) / x.shape[1]),
    "var": Case("var(x over C)", lambda x, y: x.var(1, correction=0)),
    "std": Case("std(x over C)", lambda x, y: x.std(1, correction=0)),
    "rms": Case("rms(x over C)", lambda x, y: (x * x).mean(1).sqrt()),
    "l1": Case("l1(x over C)", lambda x, y: x.abs().sum(1)),
    "l2": Case("l2(x over C)", lambda x, y: (x * x).sum(1).sqrt()),
    "max": Case("max(x over C)", lambda x, y: x.max(1).values),
    "min": Case("min(x over C)", lambda x, y: x.min(1).values),
    "median": Case("median(x over C)", lambda x, y: x.quantile(0.5, 1)),
    "quantile": Case("quantile(x over C, q = 0.3)", lambda x, y: x.quantile(0.3, 1)),
}
FORMS = {
    "count": Case("count(over C where x > 0) * y", lambda x, y: (x > 0).sum(1, True) * y),
    "moments": Case(
        "x / moments(y over N).var + moments(y over N).mean",
        lambda x, y: x / y.var(0, correction=0) + y.mean(0),
    ),
    "normalize": Case("normalize(x over C)", lambda x, y: standardized(x, 1)),
    "affine": Case("affine(x per C)", lambda x, y: 2 * x + 3),
    "mode": Case("mode(train: x * y, eval: x / y)", lambda x, y: x * y),
    "stop": Case("stop(x) * y", lambda x, y: x.detach() * y),
    "cast": Case("cast(x) * y", lambda x, y: x * y),
    "size": Case("x / size(C) + size(N)", lambda x, y: x / x.shape[1] + x.shape[0]),
    "position": Case("x * position(C)", lambda x, y: x * torch.arange(x.shape[1])),
    "softmax": Case("softmax(x over C) * y", lambda x, y: x.exp() / x.exp().sum(1, True) * y),
    "sparsestmax": Case(
        "sparsestmax(x over C, radius = 2) * y",
        lambda x, y: (x == x.amax(1, True)) * y + 0 * x,
    ),
    "concat": Case(
        "concat(x[A] * 2, x[B] + y[B] over C)",
        lambda x, y: torch.cat((x[:, :2] * 2, (x + y)[:, 2:]), 1),
        runs="C = (A = 2) + B",
    ),
    "cells": Case(
        "cells(mean(x * y over C: chunks(2)))", lambda x, y: (x * y).view(4, 3, 2).mean(2)
    ),
    "scan": Case(
        "scan(x over C, decay = tanh(y), start = y[C = -1])",
        lambda x, y: by_steps(x, y.tanh(), y[:, -1]),
    ),
}
MATRICES = {
    "blocks": Case("x * mean(y over C: blocks(2))", lambda x, y: x * blocks(y, 2)),
    "chunks": Case("x * mean(y over C: chunks(2))", lambda x, y: x * blocks(y, 3)),
    "interleave": Case("x * mean(y over C: interleave(2))", lambda x, y: x * modulo(y, 2)),
    "window": Case("x * mean(y over C: window(4))", lambda x, y: x * near(y, 2, 1)),
    "causal": Case("x * mean(y over C: causal(3))", lambda x, y: x * near(y, 2, 0)),
}
TABLE = {
    "operator": OPERATORS,
    "elementwise": ELEMENTWISE,
    "statistic": STATISTICS,
    "form": FORMS,
    "matrix": MATRICES,
}
CASES = {(group, name): case for group, cases in TABLE.items() for name, case in cases.items()}


def text(expression: str, runs: str = "") -> str:
    axis = f"  axis {runs}\n" if runs else ""
    return (
        f"norm T(eps = 1e-5) {{\n  input x[N, C], y[N, C]\n{axis}"
        f"  output x, result = {expression}\n}}\n"
    )


@lru_cache
def compiled(expression: str, runs: str = "") -> ModuleType:
    return metanorm.loads(text(expression, runs))


def inputs(positive: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 4, 6, generator=generator, dtype=F64).unbind()
    if positive:
        x, y = x.abs() + 0.1, y.abs() + 0.1
    return x.clone().requires_grad_(), y.clone().requires_grad_()


def answers(run: Reference, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The value, and the gradients of one combination of its elements."""
    value = run(x, y)
    weights = torch.linspace(-1, 2, value.numel(), dtype=F64).view(value.shape)
    loss = (value * weights).sum()
    return value, *torch.autograd.grad(loss, (x, y), allow_unused=True, materialize_grads=True)


def agree(case: Case, training: bool = True) -> None:
    layer = compiled(case.expression, case.runs).T
    module = (layer(6) if "affine" in case.expression else layer()).double().train(training)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), (2, 3)):
            parameter.fill_(value)
    x, y = inputs(case.positive)
    result = answers(lambda x, y: module(x, y).result, x, y)
    wanted = answers(case.reference, x, y)
    for actual, expected in zip(result, wanted):
        torch.testing.assert_close(actual.to(F64), expected.to(F64), rtol=1e-11, atol=1e-12)


def test_every_public_operation_is_here() -> None:
    rows = [(row.group, row.name) for row in computed()]
    assert sorted(rows) == sorted(CASES)


@pytest.mark.parametrize("key", CASES, ids=" ".join)
def test_operation(key: tuple[str, str]) -> None:
    agree(CASES[key])


SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "^",
    "neg": "-",
    "lt": "<",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
    "ge": ">=",
    "gt": ">",
}


@pytest.mark.parametrize("row", computed(), ids=lambda row: f"{row.group} {row.name}")
def test_cases_use_the_operation_they_are_for(row: Operation) -> None:
    key = (row.group, row.name)
    expression = CASES[key].expression
    assert (SIGNS[row.name] if row.group == "operator" else row.name) in expression


MORE = {
    "a whole power of a negative base": Case("x^3", lambda x, y: x * x * x),
    "a negative power": Case("x^-2", lambda x, y: 1 / (x * x)),
    "the least only": Case("clamp(x, 0.25)", lambda x, y: x.clip(min=0.25)),
    "the most only": Case("clamp(x, max = 0.25)", lambda x, y: x.clip(max=0.25)),
    "unbiased": Case("var(x over C, ddof = 1)", lambda x, y: x.var(1)),
    "unbiased deviation": Case("std(x over C, ddof = 1)", lambda x, y: x.std(1)),
    "about a value": Case(
        "var(x over C, about = mean(y over C))",
        lambda x, y: (x - y.mean(1, True)).square().mean(1),
    ),
    "masked": Case(
        "mean(x over C where y > 0)",
        lambda x, y: ((y > 0) * x).sum(1) / (y > 0).sum(1).clamp_min(1),
    ),
    "weighted": Case(
        "mean(x over C weight exp(y))", lambda x, y: (y.exp() * x).sum(1) / y.exp().sum(1)
    ),
    "counted with a weight": Case(
        "count(over C weight exp(y)) * x", lambda x, y: x * y.exp().sum(1, True)
    ),
    "over both axes": Case("x / std(y over N, C)", lambda x, y: x / y.std(correction=0)),
    "a maximum of blocks": Case(
        "x * max(y over C: blocks(2))",
        lambda x, y: x * y.view(4, 2, 3).amax(2).repeat_interleave(3, 1),
    ),
    "a sum of residues": Case(
        "x * sum(y over C: interleave(2))", lambda x, y: x * modulo(y, 2) * 3
    ),
    "a number of elements": Case(
        "y * sum((x > 0) * 1 over C)", lambda x, y: y * (x > 0).sum(1, True)
    ),
    "at most what is equal": Case("(x <= x) * y", lambda x, y: y + 0 * x),
    "less than what is equal": Case("(x < x) * y", lambda x, y: 0 * y),
    "a renamed axis": Case("sum(x * x[N -> M] over C)", lambda x, y: x @ x.T),
}


@pytest.mark.parametrize("name", MORE)
def test_ways_to_use_them(name: str) -> None:
    agree(MORE[name])


def test_in_eval_mode_the_other_side_counts() -> None:
    agree(Case(FORMS["mode"].expression, lambda x, y: x / y), training=False)


def test_the_side_that_is_not_chosen_may_be_nan() -> None:
    module = compiled("where(x > 0, x * y, -x)").T().double()
    x = torch.tensor([[-4.0, 4.0]], dtype=F64, requires_grad=True)
    y = torch.tensor([[torch.nan, 2.0]], dtype=F64)
    result = module(x.clone(), y).result
    assert result.tolist() == [[4, 8]]


ROOTS = ("std(x over C)", "rms(x over C)", "l2(x over C)")


@pytest.mark.parametrize("expression", ROOTS)
def test_at_zero_the_derivative_of_a_root_is_zero(expression: str) -> None:
    x = torch.zeros(4, 6, dtype=F64, requires_grad=True)
    result = compiled(expression).T().double()(x, x.detach()).result
    assert result.eq(0).all()
    assert torch.autograd.grad(result.sum(), x)[0].eq(0).all()


def test_a_pool_that_weighs_nothing_is_zero_with_zero_gradients() -> None:
    statistics = [row.name for row in computed() if row.group == "statistic"]
    for name in statistics:
        expression = STATISTICS[name].expression.replace("over C", "over C where y > 9")
        module = compiled(expression).T().double()
        x, y = inputs(False)
        result = module(x, y).result
        assert result.eq(0).all(), name
        assert torch.autograd.grad(result.sum(), x)[0].eq(0).all(), name


@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_extremes_share_the_gradient(name: str) -> None:
    module = compiled(f"{name}(x over C)").T().double()
    x = torch.ones(1, 4, dtype=F64, requires_grad=True)
    assert torch.autograd.grad(module(x, x.detach()).result.sum(), x)[0].tolist() == [[0.25] * 4]


def test_where_between_numbers_is_as_exact_as_the_input() -> None:
    module = compiled("0.1 * where(x > y, 1, 0)").T().double()
    result = module(torch.ones(4, 6, dtype=F64), torch.zeros(4, 6, dtype=F64)).result
    assert result.eq(0.1).all()
