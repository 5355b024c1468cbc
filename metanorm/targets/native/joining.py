"""How C joins partial statistics: a row for each rule of `metanorm.ir.accumulation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.accumulation import ACCUMULATIONS, Accumulation, Rule
from metanorm.targets.native.cir import Apply, Assign, Expr, Name, Number, Prefix


@dataclass(frozen=True, slots=True)
class JoinRule:
    """How one rule joins two numbers.

    `part` is the prefix of variable names, `operator` the OpenMP name of the rule. `kind` has the
    kinds of accumulator in `metanorm/schedule.h`: without a weight, and with one.
    """

    part: str
    operator: str
    identity: Expr
    kind: tuple[int, int]
    macro: str = ""

    def join_statement(self, target: Expr, value: Expr) -> Assign:
        """The statement that joins a value into `target`."""
        if not self.macro:
            return Assign(target, "+=", value)
        return Assign(target, "=", Apply(self.macro, (target, value)))


INFINITY = Name("INFINITY")
JOIN_RULES: Mapping[Rule, JoinRule] = {
    "add": JoinRule("sum", "+", Number(0), (0, 1)),
    "moments": JoinRule("sum", "+", Number(0), (1, 1)),
    "max": JoinRule("extreme", "larger", Prefix("-", INFINITY), (2, 2), "LARGER"),
    "min": JoinRule("extreme", "smaller", INFINITY, (3, 3), "SMALLER"),
}
# C functions that read the result of a cell, by how an accumulation finishes.
RESULT_FUNCTIONS = {
    "total": "sum_of",
    "total over weight": "share_of",
    "total if weighed": "extreme_of",
}

# The same in double, for results in float64. A largest value is one of the data.
EXACT_FUNCTIONS = {
    "sum_of": "total_of",
    "mean_of": "centre_of",
    "share_of": "quotient_of",
    "extreme_of": "extreme_of",
}


def join_rule(row: Accumulation) -> JoinRule:
    """The rule that joins the last part of an accumulation."""
    return JOIN_RULES[row.rule]


def accumulator_kind(row: Accumulation) -> int:
    """The kind of accumulator in `metanorm/schedule.h` for an accumulation."""
    return join_rule(row).kind[len(row.parts) > 1]


assert {*RESULT_FUNCTIONS.values()} <= EXACT_FUNCTIONS.keys(), "a result has none in double"
assert all(
    row.rule in JOIN_RULES and row.finish in RESULT_FUNCTIONS for row in ACCUMULATIONS.values()
)
