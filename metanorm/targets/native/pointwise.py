"""Print operations that read their operands at their own position alone."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.ir.nodes import Cast, Detach, Expand, Map, Op, Ref
from metanorm.targets.native.cir import Apply, Expr, Prefix
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.functions import FUNCTIONS


def pointwise(context: KernelContext, op: Op, read: Callable[[Ref], Expr]) -> Expr:
    """The C expression of an operation. `read` gives the expression of an operand."""
    match op:
        case Expand(value) | Detach(value):
            return read(value)
        case Cast(value, to):
            return Apply("rounded_to", (read(value), context.dtype(to)))
        case Map("add" | "sub" | "mul" | "div" | "neg" as function, arguments):
            return FUNCTIONS[function](*(_number(context, ref, read) for ref in arguments))
        case Map(function, arguments):
            return FUNCTIONS[function](*map(read, arguments))
    raise AssertionError(op)


def _number(context: KernelContext, ref: Ref, read: Callable[[Ref], Expr]) -> Expr:
    """An operand of arithmetic. A condition is an int, and C rounds a quotient of ints."""
    value = read(ref)
    return Prefix("(real)", value) if context.types[ref].kind == "bool" else value
