"""What an effect is, what measuring one gives, and when a claim counts as reproduced."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DOUBTFUL = 2.0  # standard errors within which a difference is none


@dataclass(frozen=True)
class Series:
    """A line of a plot: for each place on the x axis the values of all seeds."""

    name: str
    values: Sequence[Sequence[float]]

    def mean(self, place: int) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values[place])

    def error(self, place: int) -> float:
        """The standard error of that mean; zero where there is one seed."""
        values = self.values[place]
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Finding:
    """A claim, and whether the numbers bear it out. `None`: they do not tell."""

    claim: str
    holds: bool | None
    numbers: str

    def text(self) -> str:
        """`reproduced: CLAIM (NUMBERS)`."""
        word = {True: "reproduced", False: "not reproduced", None: "undecided"}[self.holds]
        return f"{word}: {self.claim} ({self.numbers})"


@dataclass(frozen=True)
class Measurement:
    """What a run has measured: lines over one x axis, and findings."""

    x_label: str
    x: Sequence[str | float]
    y_label: str
    series: Sequence[Series]
    findings: Sequence[Finding]
    log_y: bool = False


@dataclass(frozen=True)
class Effect:
    """An effect. `measure` takes the seeds, and whether a quick look at a part is enough."""

    source: str
    data: str
    measure: Callable[[Sequence[int], bool], Measurement]
    seeds: int = 5


def difference(claim: str, more: Sequence[float], less: Sequence[float], unit: str = "") -> Finding:
    """A claim that one number is larger than another one, from pairs of the same seed.

    It holds if the mean difference is more than `DOUBTFUL` standard errors above zero, fails if it
    is as far below, and is undecided in between.
    """
    gaps = [a - b for a, b in zip(more, less)]
    mean = statistics.fmean(gaps)
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    holds = None if abs(mean) <= DOUBTFUL * error or len(gaps) < 2 else mean > 0
    return Finding(claim, holds, f"{mean:+.3g} ± {error:.2g}{unit}")


def parity(
    claim: str, ours: Sequence[float], theirs: Sequence[float], margin: float, unit: str = ""
) -> Finding:
    """A claim that two numbers are alike: within a margin, with the error of the difference."""
    gaps = [a - b for a, b in zip(ours, theirs)]
    mean = statistics.fmean(gaps)
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    reach = abs(mean) + DOUBTFUL * error
    beyond = abs(mean) - DOUBTFUL * error > margin
    holds = True if reach <= margin and len(gaps) > 1 else False if beyond else None
    numbers = f"{mean:+.3g} ± {error:.2g}{unit}, where {margin:g}{unit} would be alike"
    return Finding(claim, holds, numbers)
