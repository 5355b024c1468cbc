"""How C joins parts of statistics: one row for each rule of `metanorm.ir.accumulation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.accumulation import ACCUMULATIONS, Accumulation, Rule
from metanorm.targets.native.cir import Apply, Assign, Expr, Name, Number, Prefix


@dataclass(frozen=True, slots=True)
class JoinRule:
    """A row. `part` begins the names of variables, `operator` is what OpenMP calls the rule, and
    `kind` what `metanorm/schedule.h` calls accumulators of one part, and of a weight as well."""

    part: str
    operator: str
    identity: Expr
    kind: tuple[int, int]
    macro: str = ""

    def join_statement(self, target: Expr, value: Expr) -> Assign:
        """The statement that joins a value into a place."""
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
# What reads the result of a cell from what was accumulated.
RESULT_FUNCTIONS = {
    "total": "sum_of",
    "total over weight": "share_of",
    "total if weighed": "extreme_of",
}


def join_rule(row: Accumulation) -> JoinRule:
    """How the last part of an accumulation is joined."""
    return JOIN_RULES[row.rule]


def accumulator_kind(row: Accumulation) -> int:
    """What `metanorm/schedule.h` calls an accumulation."""
    return join_rule(row).kind[len(row.parts) > 1]


assert all(
    row.rule in JOIN_RULES and row.finish in RESULT_FUNCTIONS for row in ACCUMULATIONS.values()
)
