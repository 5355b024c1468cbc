"""How loops accumulate statistics: a row for each statistic, with the parts of its accumulator.

Every other statistic of a spec is composed of these (`metanorm.passes.reductions`). A row tells the
printers of loops what each part accumulates, its identity, the rule that joins two accumulators,
and the result. The oracle does not read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

Rule = Literal["add", "max", "min", "moments"]


@dataclass(frozen=True, slots=True)
class Part:
    """One number of an accumulator. It accumulates the weight or the value of each element.

    `rule` is the elementwise function that joins two of them. The parts of `moments` are joined
    together, by Chan's rule.
    """

    name: str
    takes: Literal["weight", "value", "moments"]
    rule: Rule = "add"

    @property
    def identity(self) -> float:
        """The value of the part before any element."""
        return {"max": -inf, "min": inf}.get(self.rule, 0.0)


Finish = Literal["total", "total over weight", "total if weighed"]


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A row. `finish` says how the result follows from the last part; an empty pool gives zero.

    `weighs` is whether the result depends on the size of weights.
    """

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
        """The rule that joins the last part."""
        return self.parts[-1].rule

    @property
    def statistics(self) -> frozenset[str]:
        """The statistics of the same elements that this accumulation gives."""
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
# In the order of a search for the one that gives several statistics: most statistics first.
BY_COVERAGE = sorted(ROWS, key=lambda row: -len(row.statistics))


def accumulation_of(statistics: frozenset[str]) -> Accumulation:
    """The row that gives all of these statistics."""
    rows = (row for row in BY_COVERAGE if row.statistic in statistics)
    return next(row for row in rows if statistics <= row.statistics)


def joint_statistic(statistic: str) -> str:
    """The statistic whose row also gives this one: the same for all statistics of one row."""
    return next(row.statistic for row in BY_COVERAGE if statistic in row.statistics)
