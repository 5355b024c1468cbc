"""How C joins parts of statistics: one row for each rule of `metanorm.ir.accumulation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.accumulation import ACCUMULATIONS, Accumulation, Rule
from metanorm.targets.native.cir import Apply, Expr, Name, Number, Prefix, Set


@dataclass(frozen=True, slots=True)
class Joining:
    """A row. `part` begins the names of variables, `operator` is what OpenMP calls the rule, and
    `kind` what `metanorm/schedule.h` calls accumulators of one part, and of a weight as well."""

    part: str
    operator: str
    identity: Expr
    kind: tuple[int, int]
    macro: str = ""

    def into(self, place: Expr, value: Expr) -> Set:
        """The statement that joins a value into a place."""
        if not self.macro:
            return Set(place, "+=", value)
        return Set(place, "=", Apply(self.macro, (place, value)))


INFINITY = Name("INFINITY")
JOINING: Mapping[Rule, Joining] = {
    "add": Joining("sum", "+", Number(0), (0, 1)),
    "moments": Joining("sum", "+", Number(0), (1, 1)),
    "max": Joining("extreme", "larger", Prefix("-", INFINITY), (2, 2), "LARGER"),
    "min": Joining("extreme", "smaller", INFINITY, (3, 3), "SMALLER"),
}
# What reads the result of a cell from what was accumulated.
TAKEN = {"total": "sum_of", "total over weight": "share_of", "total if weighed": "extreme_of"}


def joining(row: Accumulation) -> Joining:
    """How the last part of an accumulation is joined."""
    return JOINING[row.rule]


def kind(row: Accumulation) -> int:
    """What `metanorm/schedule.h` calls an accumulation."""
    return joining(row).kind[len(row.parts) > 1]


assert all(row.rule in JOINING and row.finish in TAKEN for row in ACCUMULATIONS.values())
