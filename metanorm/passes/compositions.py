"""Elementwise functions that are formulas of others, a row for each: kernels do without them.

Derivatives come first, if a function has a row in `metanorm.passes.derivatives`: the derivative of
`sigmoid` reads its result, which a formula does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from metanorm.ir.nodes import Map, Ref
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder
from metanorm.passes.derivatives import DERIVATIVES

Formula = Callable[..., Ref]


def _logistic(b: Builder, x: Ref) -> Ref:
    return b.map("add", b.number(1), b.map("exp", b.map("neg", x)))


def _gelu(b: Builder, x: Ref) -> Ref:
    bell = b.map("erf", b.map("mul", x, b.number(2**-0.5)))
    return b.map("mul", b.map("mul", b.number(0.5), x), b.map("add", b.number(1), bell))


def _unbiased(b: Builder, variance: Ref, count: Ref) -> Ref:
    """v n / (n - 1), and v itself where n is at most one."""
    degrees_of_freedom = b.map("sub", count, b.number(1))
    corrected = b.map("div", b.map("mul", variance, count), degrees_of_freedom)
    return b.map("where", b.map("gt", count, b.number(1)), corrected, variance)


COMPOSITIONS: Mapping[str, Formula] = {
    "sigmoid": lambda b, x: b.map("div", b.number(1), _logistic(b, x)),
    # It propagates NaN, as torch does.
    "relu": lambda b, x: b.map("where", b.map("lt", x, b.number(0)), b.number(0), x),
    "silu": lambda b, x: b.map("div", x, _logistic(b, x)),
    "gelu": _gelu,
    "clamp_min": lambda b, x, bound: b.map("max", x, bound),
    "clamp_max": lambda b, x, bound: b.map("min", x, bound),
    "unbiased": _unbiased,
}
# Functions that kernels compute: each has a row in every target and in the derivatives.
PRIMITIVES = ELEMENTWISE.keys() - COMPOSITIONS.keys()
assert DERIVATIVES.keys() >= PRIMITIVES, PRIMITIVES - DERIVATIVES.keys()


def with_formulas(program: Program, functions: Collection[str]) -> Program:
    """The program with formulas in place of these functions."""
    if not any(isinstance(let.op, Map) and let.op.function in functions for let in program.body):
        return program
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Map) and op.function in functions:
            builder.substitute(let, COMPOSITIONS[op.function](builder, *op.arguments))
        else:
            builder.copy(let, op)
    return builder.finish()
