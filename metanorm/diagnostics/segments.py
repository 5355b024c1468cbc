"""MN04xx: segments of packed batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available
from metanorm.source import Span


@problem("MN0409")
@dataclass(frozen=True)
class NoOffsets(Problem):
    """A window is kept within what has no segments.

    ### What it means

    `causal within cu_seqlens` keeps the past of each position within its segment of a packed
    batch. The name behind `within` is an input of sort `offsets`: where each segment begins, and
    the length at the end. An `index` will not do, since its groups need not lie together.

    ### Example

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[T, C], sequence: index[T]
      reduce C, T: causal within sequence
    }
    ```

    ### Fix

    Declare offsets, and hand them to the call.

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[T, C], cu_seqlens: offsets[T]
      reduce C, T: causal within cu_seqlens
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    is_value: bool

    def message(self) -> str:
        return f"`{self.name}` has no segments to stay within"

    def label(self) -> str:
        return "this is no input of sort `offsets`" if self.is_value else ""

    def helps(self) -> tuple[str, ...]:
        if self.candidates:
            return did_you_mean(self.name, self.candidates) or list_available(self.candidates)
        return (f"declare it so: `{self.name}: offsets[T]`, where T is the packed axis",)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self.candidates)


# What to write instead of what moves along an axis without a pool.
INSTEAD: Mapping[str, str] = {
    "scan": "a scan begins anew where its `decay` is zero: in the place of the offsets, take an "
    "input `starts[{axis}]` that is 1 where a segment begins, and write `decay = a * (1 - starts)`",
    "position": "the first position of each segment is `sum(x over {segment} where "
    "position({axis}) == min(position({axis}) over {segment}))`, the last one that of `max`",
    "softmax": "within segments, write `e / sum(e over {segment})` with "
    "`let e = exp(x - max(x over {segment}))`",
    "sparsestmax": "it stays within no segments: give each sequence a row, `x[N, {axis}]`",
}


@problem("MN0410")
@dataclass(frozen=True)
class CrossesSegments(Problem):
    """A value reaches from one segment of an axis into the next.

    ### What it means

    Offsets say that positions of this axis belong to several sequences. A window or a past that
    does not heed them would pool what has nothing to do with each other. So would a scan, a
    softmax, or a single position, `x[T = 0]`.

    ### Example

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[T, C], cu_seqlens: offsets[T]
      reduce C, T: causal
    }
    ```

    ### Fix

    Keep it within the segments.

    ```norm
    norm Packed(eps = 1e-5) {
      input  x[T, C], cu_seqlens: offsets[T]
      reduce C, T: causal within cu_seqlens
    }
    ```
    """

    span: Span
    matrix: str
    index: str
    axis: str
    declared: Span

    def message(self) -> str:
        if self.matrix == "position":
            return f"this is one position for all segments of `{self.index}`"
        verb = "moves along" if self.matrix == "scan" else "pools"
        return f"`{self.matrix}` {verb} axis `{self.axis}` across the segments of `{self.index}`"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="declared here"),)

    def helps(self) -> tuple[str, ...]:
        instead = INSTEAD.get(self.matrix)
        if instead is not None:
            return (instead.format(axis=self.axis, segment=f"{self.axis}: {self.index}"),)
        return (f"write `{self.axis}: {self.matrix} within {self.index}`",)
