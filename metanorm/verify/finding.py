"""The results of verification, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK = "ok"
REFUSED = "refused"
ILL_CONDITIONED = "ill-conditioned"
UNDEFINED = "undefined"
GOOD = (OK, REFUSED, ILL_CONDITIONED)
EXACT = "float64"
KERNELS, TORCH = "kernels", "plain torch"


@dataclass(frozen=True)
class Finding:
    """One setting: `ok`, `refused` (with an error that the spec asks for), `ill-conditioned`
    (the oracle itself moves as far where each of its numbers is a unit in the last place off),
    `undefined` (no output has a finite number, on either side, for a degenerate input: nothing was
    compared), or what is wrong.

    `error` is the largest difference, infinite where one side is no number (`null` in JSON), and
    `moved` how far the oracle moved. `on` is what the call ran on, `kernels` or `plain torch`.
    """

    setting: str
    outcome: str
    error: float | None = 0.0
    moved: float = 0.0
    on: str = TORCH
    dtype: str = EXACT  # of the inputs

    @property
    def good(self) -> bool:
        """Whether module and oracle agree, as far as numbers of this precision can."""
        return self.outcome in GOOD

    @property
    def bad(self) -> bool:
        """Whether something is wrong. A finding without a comparison is neither good nor bad."""
        return not self.good and self.outcome != UNDEFINED

    def text(self) -> str:
        """The finding as a line: `mean 1e4, float32, on kernels: y is off (2.0e-01)`."""
        error = f" ({self.error:.1e})" if self.error else ""
        if self.moved:
            error = f" ({self.error:.1e}; the oracle itself moves by {self.moved:.1e})"
        return f"{self.setting}, on {self.on}: {self.outcome}{error}"


@dataclass(frozen=True)
class Verification:
    """All findings for one norm. `problem` says why there are no more of them."""

    norm: str
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()  # such as kernels that could not be built

    @property
    def good(self) -> bool:
        """Whether no finding is bad, and at least one compared numbers."""
        compared = any(f.good for f in self.findings)
        return not self.problem and compared and not any(f.bad for f in self.findings)

    def count(self, outcome: str) -> int:
        """The number of findings with this outcome."""
        return sum(f.outcome == outcome for f in self.findings)

    @property
    def on_kernels(self) -> int:
        """The number of findings on kernels."""
        return sum(f.on == KERNELS for f in self.findings)

    @property
    def largest_error(self) -> float:
        """The largest error of findings that agree in float64."""
        exact = (f for f in self.findings if f.outcome == OK and f.dtype == EXACT)
        return max((f.error or 0.0 for f in exact), default=0.0)


def totals(reports: Sequence[Verification]) -> str:
    """`3 norms, 432 checks, 216 of them on kernels; 1 BAD: Mine`."""
    checks = sum(len(r.findings) for r in reports)
    kernels = sum(r.on_kernels for r in reports)
    undefined = sum(r.count(UNDEFINED) for r in reports)
    bad = [r.norm for r in reports if not r.good]
    plural = "" if len(reports) == 1 else "s"
    line = f"{len(reports)} norm{plural}, {checks} checks, {kernels} of them on kernels"
    line += f", {undefined} of them without a number to compare" if undefined else ""
    return line + (f"; {len(bad)} BAD: {', '.join(bad)}" if bad else "; all good")
