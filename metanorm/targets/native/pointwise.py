"""Print operations that read their operands at their own position alone."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.ir.nodes import Cast, Detach, Expand, Map, Op, Ref
from metanorm.targets.native.cir import Apply, Expr
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.functions import FUNCTIONS


def pointwise(context: KernelContext, op: Op, read: Callable[[Ref], Expr]) -> Expr:
    """The C expression of an operation. `read` gives the expression of an operand."""
    match op:
        case Expand(value) | Detach(value):
            return read(value)
        case Cast(value, to):
            return Apply("rounded_to", (read(value), context.dtype(to)))
        case Map(function, arguments):
            return FUNCTIONS[function](*map(read, arguments))
    raise AssertionError(op)
