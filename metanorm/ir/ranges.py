"""Which numbers a value can be: interval arithmetic over a program, for lints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
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
    Pool,
    Position,
    Program,
    Ref,
    Rename,
)
from metanorm.ir.scalar import Const, Scalar

INF = math.inf


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`; `strict` where `low` itself is not reached."""

    low: float = -INF
    high: float = INF
    strict: bool = False

    @property
    def positive(self) -> bool:
        """Whether every number in it is above zero."""
        return self.low > 0 or (self.low == 0 and self.strict)

    def union(self, other: Range) -> Range:
        """Everything in either."""
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
    found: dict[Ref, Range] = {}
    for ref, op in program.index.ops.items():
        found[ref] = _range(op, found, program.index.ops, program)
    return found


def _range(op: Op, known: Mapping[Ref, Range], ops: Mapping[Ref, Op], program: Program) -> Range:
    match op:
        case Number(value):
            return _scalar(value)
        case Param(name):
            param = program.index.params[name]
            if isinstance(param.low, Const) and isinstance(param.high, Const):
                return Range(param.low.value, param.high.value)
            return ANY
        case Buffer(name):
            buffer = program.index.buffers[name]
            first = buffer.init
            began = ANY if isinstance(first, (Draw, Eye)) else _scalar(first)
            is_running_var = buffer.tracked and began.positive
            return NONNEGATIVE if is_running_var else ANY
        case Count() | Position():
            return NONNEGATIVE
        case AxisMap():
            return UNIT
        case Pool(statistic=statistic, value=value):
            inner = known[value]
            if statistic in ("mean", "max", "min", "quantile"):
                return inner.union(Range(0.0, 0.0))
            if statistic == "sum":
                return NONNEGATIVE if inner.low >= 0 else ANY
            return STATISTICS.get(statistic, ANY)  # of others nothing is known
        case Detach(value) | Rename(value) | Expand(value) | Lookup(value):
            return known[value]
        case Cast(value):  # which may round to zero
            return NONNEGATIVE if known[value].low >= 0 else ANY
        case Mode(train, evaluated):
            return known[train].union(known[evaluated])
        case Map("mul", (a, b)) if a == b:
            return NONNEGATIVE
        case Map("pow", (base, exponent)):
            power = ops[exponent]
            even = isinstance(power, Number) and power.value in (Const(2.0), Const(4.0))
            positive = known[base].positive
            return POSITIVE if positive else NONNEGATIVE if even else ANY
        case Map(function, arguments):
            return _map(function, [known[a] for a in arguments])
        case _:
            return ANY


def _scalar(value: Scalar) -> Range:
    return Range(value.value, value.value) if isinstance(value, Const) else POSITIVE


def _map(function: str, given: list[Range]) -> Range:
    if function in FUNCTIONS:
        return FUNCTIONS[function]
    first = given[0]
    match function:
        case "add":
            low, high = first.low + given[1].low, first.high + given[1].high
            return Range(low, high, any(g.strict for g in given))
        case "sub":
            low, high = first.low - given[1].high, first.high - given[1].low
            # 1 - sigmoid(x) is never zero: the bound 1 of a strict unit range is open too.
            return Range(low, high, first.strict or given[1] == UNIT)
        case "neg":
            return Range(-first.high, -first.low)
        case "mul":
            if all(g.low >= 0 for g in given):
                return POSITIVE if all(g.positive for g in given) else NONNEGATIVE
            return ANY
        case "div":
            if first.low >= 0 and given[1].positive:
                return POSITIVE if first.positive else NONNEGATIVE
            return ANY
        case "sqrt" | "root":
            return POSITIVE if first.positive else NONNEGATIVE
        case "max":
            return max(given, key=lambda r: (r.low, r.strict))
        case "min":
            return min(given, key=lambda r: (r.low, r.strict))
        case "where":
            return given[1].union(given[2])
        case _:
            return ANY
