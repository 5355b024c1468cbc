"""MN07xx: warnings about what a spec computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from metanorm.diagnostics.guess import SAFE
from metanorm.diagnostics.model import Fix, Label, Warn
from metanorm.diagnostics.registry import problem
from metanorm.source import Span


@problem("MN0701")
@dataclass(frozen=True)
class UnsafeDivision(Warn):
    """Division by a scale that may be zero.

    ### What it means

    The divisor is made of statistics and nothing keeps it from zero: a constant input gives
    infinity or NaN.

    ### Example

    ```norm
    norm Bare {
      input  x[N, C]
      output (x - mean(x over C)) / std(x over C)
    }
    ```

    ### Fix

    Add a small number: `sqrt(var(x over C) + eps)` or `std(x over C) + eps`. Where the paper
    has none, say so with `# norm: allow MN0701 -- reason` on the line.

    ```norm
    norm Safe(eps = 1e-5) {
      input  x[N, C]
      output (x - mean(x over C)) / (std(x over C) + eps)
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "division by a scale that may be zero"

    def label(self) -> str:
        return "nothing keeps this from zero"

    def helps(self) -> tuple[str, ...]:
        return ("add a small hyperparameter, for example `eps = 1e-5`, to it",)


Crossing = Literal["pool", "scan", "move"]
WORDS_OF_CROSSING: Mapping[Crossing, str] = {
    "pool": "statistics cross",
    "scan": "a state moves along",
    "move": "values are read at other positions of",
}


@problem("MN0702")
@dataclass(frozen=True)
class BatchDependent(Warn):
    """Statistics cross the batch without `track` or `mode`.

    ### What it means

    The samples of a batch influence each other, in eval mode too: the result for one sample
    depends on which others are evaluated with it.

    ### Example

    ```norm
    norm BatchOnly {
      input  x[N, C]
      reduce N
    }
    ```

    ### Fix

    Keep running statistics with `track momentum`, choose with `mode(train: ..., eval: ...)`, or
    say that it is meant with `# norm: allow MN0702 -- reason` on the line.

    ```norm
    norm BatchAndMore(momentum = 0.1) {
      input  x[N, C]
      reduce N
      track  momentum
    }
    ```
    """

    span: Span
    axis: str
    declared: Span
    crossing: Crossing = "pool"

    def message(self) -> str:
        what = WORDS_OF_CROSSING[self.crossing]
        return f"{what} the batch axis `{self.axis}`: evaluation depends on the batch"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="the batch axis"),)

    def helps(self) -> tuple[str, ...]:
        if self.crossing != "pool":
            reason = f"{self.axis} is time" if self.crossing == "scan" else "all are one sample"
            allow = f"`# norm: allow MN0702 -- {reason}`"
            return (f"choose with `mode(train: m, eval: ...)`, or say that it is meant: {allow}",)
        return ("add `track momentum` to use running statistics in eval mode",)


@problem("MN0703")
@dataclass(frozen=True)
class UnusedAllowance(Warn):
    """A warning is allowed that does not occur.

    ### What it means

    `# norm: allow CODE` silences a warning on its line, or on the next one where it stands
    alone. This one silences nothing: there is no such warning here, or no such code.

    ### Example

    ```norm
    norm Fine {
      input  x[N, C]
      reduce C  # norm: allow MN0701 -- no longer needed
    }
    ```

    ### Fix

    Remove the comment.

    ```norm
    norm Meant {
      input  x[N, C]
      reduce N  # norm: allow MN0702 -- samples are compared with each other
    }
    ```
    """

    span: Span
    allowed: str  # the code, or nothing where there is none
    is_code: bool = True
    comment: Span | None = None  # what goes with the allowance, if it goes

    def message(self) -> str:
        if not self.allowed:
            return "a comment that allows something names no code"
        if not self.is_code:
            return f"there is no code `{self.allowed}` to allow"
        return f"`{self.allowed}` is allowed here, but does not occur"

    def helps(self) -> tuple[str, ...]:
        if not (self.allowed and self.is_code):
            return ("write the code of a warning: `# norm: allow MN0702 -- reason`",)
        return ("remove it",)

    def fixes(self) -> tuple[Fix, ...]:
        if self.comment is None or not self.is_code:
            return ()
        return (Fix(self.comment, "", SAFE, "remove the comment that allows nothing"),)


@problem("MN0704")
@dataclass(frozen=True)
class DifferenceOfSquares(Warn):
    """A variance as a mean of squares less the square of the mean.

    ### What it means

    Both are large where the mean is large beside the spread, and their difference is what rounding
    has left: in float32 a mean of 1000 takes all digits of a variance of one, and the result may
    be negative.

    ### Example

    ```norm
    norm Spread(eps = 1e-5) {
      input  x[N, C]
      let    m = mean(x over C)
      output (x - m) / sqrt(mean(x^2 over C) - m^2 + eps)
    }
    ```

    ### Fix

    Let the statistic measure it, which never subtracts large numbers.

    ```norm
    norm Spread(eps = 1e-5) {
      input  x[N, C]
      let    m = mean(x over C)
      output (x - m) / sqrt(var(x over C) + eps)
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "a variance as a difference of large numbers"

    def label(self) -> str:
        return "rounding decides, where the mean is large beside the spread"

    def helps(self) -> tuple[str, ...]:
        return ("write `var(x over P)`, with the same pool",)


@problem("MN0705")
@dataclass(frozen=True)
class CrossesGroups(Warn):
    """A window reaches from one group of an index into the next.

    ### What it means

    An index says that positions of this axis belong to several sequences or graphs. A window or a
    past does not heed it, and pools neighbours of other groups too.

    ### Example

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[N, T, C], sequence: index[T]
      reduce C, T: causal
      output normalized + mean(x over T: sequence)
    }
    ```

    ### Fix

    If groups lie one behind the other, declare offsets, which a window can stay within. If the
    index has nothing to do with neighbours, such as a class, say so with
    `# norm: allow MN0705 -- reason` on the line.

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[N, T, C], cu_seqlens: offsets[T]
      reduce C, T: causal within cu_seqlens
      output normalized + mean(x over T: cu_seqlens)
    }
    ```
    """

    span: Span
    matrix: str
    index: str
    axis: str
    declared: Span

    def message(self) -> str:
        return f"`{self.matrix}` pools axis `{self.axis}` across the groups of `{self.index}`"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="declared here"),)

    def helps(self) -> tuple[str, ...]:
        if self.matrix == "scan":
            return ("a scan begins anew where its `decay` is zero, so take that as an input",)
        within = f"write `{self.axis}: {self.matrix} within {self.index}`"
        return (f"declare `{self.index}: offsets[{self.axis}]`, and {within}",)
