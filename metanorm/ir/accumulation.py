"""How statistics are accumulated: a row for each that loops take, with its parts.

Everything else that a spec can pool is made of these (`metanorm.passes.reductions`). Whoever prints
loops reads from the row what is added up, what an accumulator begins with, how two accumulators
become one, and what the result is; the oracle does not read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

Rule = Literal["add", "max", "min", "moments"]


@dataclass(frozen=True, slots=True)
class Part:
    """A number for each cell. It takes in the weight or the value of each element that counts.

    Two of them are joined by `rule`, an elementwise function; `moments` are joined all together, by
    Chan's rule.
    """

    name: str
    takes: Literal["weight", "value", "moments"]
    rule: Rule = "add"

    @property
    def identity(self) -> float:
        """What a part begins with: nothing was taken in."""
        return {"max": -inf, "min": inf}.get(self.rule, 0.0)


Finish = Literal["total", "total over weight", "mean", "total if weighed"]


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A row. The last part is what the result is made of, as `finish` says; where nothing weighs
    anything it is zero. `weighs` is whether the result depends on how much an element weighs."""

    statistic: str
    title: str
    parts: tuple[Part, ...]
    finish: Finish
    weighs: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(part.name for part in self.parts)

    @property
    def rule(self) -> Rule:
        """How the last part is joined."""
        return self.parts[-1].rule

    @property
    def statistics(self) -> frozenset[str]:
        """The statistics that are found together with this one, of the same elements."""
        return frozenset({self.statistic, *ALSO_MEASURED.get(self.statistic, ())})


ALSO_MEASURED = {"var": ("mean",)}
WEIGHT = Part("weight", "weight")
ROWS = (
    Accumulation("sum", "sum", (Part("total", "value"),), "total"),
    Accumulation("mean", "mean", (WEIGHT, Part("total", "value")), "total over weight"),
    Accumulation(
        "var",
        "moments",
        (
            Part("weight", "moments", "moments"),
            Part("mean", "moments", "moments"),
            Part("squares", "moments", "moments"),
        ),
        "total over weight",
    ),
    Accumulation(
        "max", "maximum", (WEIGHT, Part("largest", "value", "max")), "total if weighed", False
    ),
    Accumulation(
        "min", "minimum", (WEIGHT, Part("smallest", "value", "min")), "total if weighed", False
    ),
)
ACCUMULATIONS: Mapping[str, Accumulation] = {row.statistic: row for row in ROWS}
# In which those of the same elements are measured together: the ones that find most come first.
BY_COVERAGE = sorted(ROWS, key=lambda row: -len(row.statistics))


def accumulation_of(statistics: frozenset[str]) -> Accumulation:
    """The row that finds these statistics together."""
    rows = (row for row in BY_COVERAGE if row.statistic in statistics)
    return next(row for row in rows if statistics <= row.statistics)


def joint_statistic(statistic: str) -> str:
    """What statistics have in common that are found together: the name of the one with most."""
    return next(row.statistic for row in BY_COVERAGE if statistic in row.statistics)
