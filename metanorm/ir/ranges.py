"""The range of each value: interval arithmetic over a program, for lints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Expand,
    Eye,
    Lookup,
    Map,
    Mode,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.program import Program
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

INF = math.inf


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, without `low` where the range is `strict`."""

    low: float = -INF
    high: float = INF
    strict: bool = False

    @property
    def positive(self) -> bool:
        """Whether every number in the range is above zero."""
        return self.low > 0 or (self.low == 0 and self.strict)

    def union(self, other: Range) -> Range:
        """The smallest range that contains both."""
        low = min(self.low, other.low)
        reached = [r for r in (self, other) if r.low == low]
        return Range(low, max(self.high, other.high), all(r.strict for r in reached))


ANY = Range()
NONNEGATIVE = Range(0.0)
POSITIVE = Range(0.0, INF, True)
UNIT = Range(0.0, 1.0, True)

FUNCTIONS: Mapping[str, Range] = {
    "exp": POSITIVE,
    "rsqrt": POSITIVE,
    "sigmoid": UNIT,
    "softplus": POSITIVE,
    "relu": NONNEGATIVE,
    "abs": NONNEGATIVE,
    "unbiased": NONNEGATIVE,
    "tanh": Range(-1.0, 1.0),
    "erf": Range(-1.0, 1.0),
    "sin": Range(-1.0, 1.0),
    "cos": Range(-1.0, 1.0),
    "sign": Range(-1.0, 1.0),
}
STATISTICS = {"var": NONNEGATIVE, "second": NONNEGATIVE, "l1": NONNEGATIVE, "l2": NONNEGATIVE}


def ranges(program: Program) -> dict[Ref, Range]:
    """The range of every binding. Hyperparameters and sizes count as positive."""
    range_by_ref: dict[Ref, Range] = {}
    for ref, op in program.index.ops.items():
        range_by_ref[ref] = _range_of_op(op, range_by_ref, program.index.ops, program)
    return range_by_ref


def _range_of_op(
    op: Op, range_by_ref: Mapping[Ref, Range], ops: Mapping[Ref, Op], program: Program
) -> Range:
    match op:
        case Number(value):
            return range_of_scalar(value)
        case Param(name):
            param = program.index.params[name]
            if isinstance(param.low, Const) and isinstance(param.high, Const):
                return Range(param.low.value, param.high.value)
            return ANY
        case Buffer(name):
            buffer = program.index.buffers[name]
            init = buffer.init
            initial = ANY if isinstance(init, (Draw, Eye)) else range_of_scalar(init)
            is_running_var = buffer.tracked and initial.positive
            return NONNEGATIVE if is_running_var else ANY
        case Count() | Position():
            return NONNEGATIVE
        case AxisMap(adjoint=None):
            return UNIT
        case Recurrence(value, decay, start):
            # A state that takes in shares of what is not negative is never negative.
            operand_ranges = [range_by_ref[ref] for ref in (value, decay, start)]
            return NONNEGATIVE if all(r.low >= 0 for r in operand_ranges) else ANY
        case Pool(statistic=statistic, value=value):
            inner = range_by_ref[value]
            if statistic in ("mean", "max", "min", "quantile"):
                return inner.union(Range(0.0, 0.0))
            if statistic == "sum":
                return NONNEGATIVE if inner.low >= 0 else ANY
            return STATISTICS.get(statistic, ANY)  # others can be any number
        case Concat(values):
            joined = range_by_ref[values[0]]
            for ref in values[1:]:
                joined = joined.union(range_by_ref[ref])
            return joined if len(values) > 1 else joined.union(Range(0.0, 0.0))
        case Detach(value) | Rename(value) | Piece(value) | Expand(value) | Lookup(value):
            return range_by_ref[value]
        case Cast(value):  # which may round to zero
            return NONNEGATIVE if range_by_ref[value].low >= 0 else ANY
        case Mode(train, evaluated):
            return range_by_ref[train].union(range_by_ref[evaluated])
        case Map("mul", (a, b)) if a == b:
            return NONNEGATIVE
        case Map("pow", (base, exponent)):
            power = ops[exponent]
            constant = power.value if isinstance(power, Number) else None
            return _range_of_power(range_by_ref[base], constant)
        case Map(function, arguments):
            return _range_of_map(function, [range_by_ref[a] for a in arguments])
        case _:
            return ANY


def range_of_scalar(value: Scalar) -> Range:
    """The range of a scalar. Hyperparameters and lengths count as positive."""
    match value:
        case Const(number):
            return Range(number, number)
        case Apply("pow", (base, exponent)):
            return _range_of_power(range_of_scalar(base), exponent)
        case Apply(function, arguments):
            return _range_of_map(function, [range_of_scalar(a) for a in arguments])
        case Hyper() | SizeOf():
            return POSITIVE


def _range_of_power(base: Range, exponent: Scalar | None) -> Range:
    is_even = exponent in (Const(2.0), Const(4.0))
    return POSITIVE if base.positive else NONNEGATIVE if is_even else ANY


def _range_of_map(function: str, arguments: list[Range]) -> Range:
    if function in FUNCTIONS:
        return FUNCTIONS[function]
    first = arguments[0]
    match function:
        case "add":
            low, high = first.low + arguments[1].low, first.high + arguments[1].high
            return Range(low, high, any(g.strict for g in arguments))
        case "sub":
            low, high = first.low - arguments[1].high, first.high - arguments[1].low
            # 1 - sigmoid(x) is never zero: the bound 1 of a strict unit range is open too.
            return Range(low, high, first.strict or arguments[1] == UNIT)
        case "neg":
            return Range(-first.high, -first.low)
        case "mul":
            if all(g.low >= 0 for g in arguments):
                return POSITIVE if all(g.positive for g in arguments) else NONNEGATIVE
            return ANY
        case "div":
            if first.low >= 0 and arguments[1].positive:
                return POSITIVE if first.positive else NONNEGATIVE
            return ANY
        case "sqrt" | "root":
            return POSITIVE if first.positive else NONNEGATIVE
        case "max" | "clamp_min":
            return max(arguments, key=lambda r: (r.low, r.strict))
        case "min" | "clamp_max":
            return min(arguments, key=lambda r: (r.low, r.strict))
        case "where":
            return arguments[1].union(arguments[2])
        case _:
            return ANY
