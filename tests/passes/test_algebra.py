"""Each rewrite rule, as text and as numbers; and what looks like a rule but would be wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from programs import after, lowered
from torch import Tensor

from metanorm.ir.nodes import Number
from metanorm.ir.scalar import FUNCTIONS, Apply, Hyper
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.passes.algebra import RULES
from metanorm.passes.builder import Builder
from metanorm.passes.simplify import simplify

INPUTS = "input x[N, C], v[C]"

# Of each rule: an expression that it applies to, and what is left.
CASES = {
    "a + 0": ("x + 0", ""),
    "0 + a": ("0 + x", ""),
    "a + (-b)": ("x + -v", "%1 : [N, C] = sub(x, v)"),
    "(-a) + b": ("-v + x", "%1 : [N, C] = sub(x, v)"),
    "a - 0": ("x - 0", ""),
    "0 - a": ("0 - x", "%1 : [N, C] = neg(x)"),
    "a * 1": ("x * 1", ""),
    "1 * a": ("1 * x", ""),
    "a * -1": ("x * -1", "%1 : [N, C] = neg(x)"),
    "a / 1": ("x / 1", ""),
    "a / sqrt(v)": ("x / sqrt(v)", "%rstd : [C] = rsqrt(v)\n%1 : [N, C] = mul(x, %rstd)"),
    "a^1": ("x^1", ""),
    "a^2": ("x^2", "%1 : [N, C] = mul(x, x)"),
    "-(-a)": ("-(-x)", ""),
    "where(1, a, b)": ("where(1, x, v) * where(0, v, x)", "%1 : [N, C] = mul(x, x)"),
    "a whole number lt a bound": (
        "position(C) < 2.5",
        "%1 : [C] = position(C)\n%2 : bool[C] = lt(%1, 3)",
    ),
    "a whole number le a bound": (
        "position(C) + 1 <= 0.3 * size(C)",
        "%1 : [C] = position(C)\n%2 : [C] = add(%1, 1)\n"
        "%3 : bool[C] = le(%2, floor((0.3 * size(C))))",
    ),
    "a whole number gt a bound": (
        "2.5 > position(C)",
        "%1 : [C] = position(C)\n%2 : bool[C] = gt(3, %1)",
    ),
    "a whole number ge a bound": (
        "position(C) >= 2.5",
        "%1 : [C] = position(C)\n%2 : bool[C] = ge(%1, 3)",
    ),
}


def simplified(expression: str) -> str:
    """The bindings that are left of an expression, before the two outputs."""
    text = after(f"{INPUTS}\noutput x, found = {expression}", simplify)
    return "\n".join(text.split("\n")[:-2])


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in RULES} == {*CASES, *(f"{f} of scalars" for f in FUNCTIONS)}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    expression, left = CASES[name]
    assert simplified(expression) == left


SCALARS = {
    "add": ((2, 3), 5),
    "sub": ((2, 3), -1),
    "mul": ((2, 3), 6),
    "div": ((3, 2), 1.5),
    "floordiv": ((7, 2), 3),
    "floor": ((2.5,), 2),
    "ceil": ((2.5,), 3),
    "pow": ((2, 3), 8),
    "neg": ((2,), -2),
    "sqrt": ((16,), 4),
    "exp": ((0,), 1),
    "log": ((1,), 0),
    "abs": ((-3,), 3),
    "min": ((2, 3), 2),
    "max": ((2, 3), 3),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_constants_are_computed(function: str) -> None:
    numbers, result = SCALARS[function]
    builder = Builder(lowered(f"{INPUTS}\noutput x"))
    folded = builder.map(function, *(builder.number(n) for n in numbers))
    assert builder.constant_value(folded) == result


@pytest.mark.parametrize("function", FUNCTIONS)
def test_hyperparameters_are_computed_once_for_all(function: str) -> None:
    """What is done to scalars of the constructor is one scalar again."""
    builder = Builder(lowered(f"{INPUTS}\noutput x"))
    eps = Hyper("eps")
    count = len(SCALARS[function][0])
    folded = builder.map(function, *[builder.number(eps)] * count)
    assert builder.ops[folded] == Number(Apply(function, (eps,) * count))


@pytest.mark.parametrize("function, numbers", [("div", (1, 0)), ("exp", (1000,))])
def test_constants_may_be_infinite(function: str, numbers: tuple[float, ...]) -> None:
    builder = Builder(lowered(f"{INPUTS}\noutput x"))
    folded = builder.map(function, *(builder.number(n) for n in numbers))
    assert builder.constant_value(folded) == math.inf


# Equal for ordinary numbers, but not for all: NaN, infinity, zero, or a negative base.
WRONG_FOR_SOME = {
    "0 * x": "%1 : [N, C] = mul(0, x)",
    "x * 0": "%1 : [N, C] = mul(x, 0)",
    "x - x": "%1 : [N, C] = sub(x, x)",
    "x / x": "%1 : [N, C] = div(x, x)",
    "sqrt(x)^2": "%1 : [N, C] = sqrt(x)\n%2 : [N, C] = mul(%1, %1)",
    "sqrt(x * x)": "%1 : [N, C] = mul(x, x)\n%2 : [N, C] = sqrt(%1)",
    "exp(log(x))": "%1 : [N, C] = log(x)\n%2 : [N, C] = exp(%1)",
    "x * v / v": "%1 : [N, C] = mul(x, v)\n%2 : [N, C] = div(%1, v)",
    "where(x > 0, x, x)": "%1 : bool[N, C] = gt(x, 0)\n%2 : [N, C] = where(%1, x, x)",
}


@pytest.mark.parametrize("expression", WRONG_FOR_SOME)
def test_what_is_wrong_for_some_numbers_is_not_done(expression: str) -> None:
    assert simplified(expression) == WRONG_FOR_SOME[expression]


@pytest.mark.parametrize("expression", ["(x > 0) * 1", "(x > 0) + 0", "1 * (x > 0)"])
def test_a_condition_does_not_become_a_number_by_leaving_out_its_partner(expression: str) -> None:
    assert len(simplified(expression).split("\n")) == 2


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from((0.0, 1.0))


def values(expression: str, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The value of an expression before and after simplification, by the oracle."""
    program = lowered(f"{INPUTS}\noutput x, found = {expression}")
    call = Call(inputs={"x": x, "v": v}, hypers={"eps": 1e-5})
    values = [interpret(p, call).outputs["found"] for p in (program, simplify(program))]
    return values[0], values[1]


@given(x=st.lists(NUMBERS, min_size=3, max_size=3), v=st.lists(NUMBERS, min_size=3, max_size=3))
@pytest.mark.parametrize("name", CASES)
def test_rules_hold_for_all_numbers(name: str, x: list[float], v: list[float]) -> None:
    """Infinities and NaN too."""
    given_x, given_v = (torch.tensor(n, dtype=torch.float64) for n in ([x], v))
    before, after_ = values(CASES[name][0], given_x, given_v)
    torch.testing.assert_close(after_, before, rtol=1e-14, atol=0, equal_nan=True)
