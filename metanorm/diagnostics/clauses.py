"""MN06xx: clauses that contradict each other or have no effect."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.model import Label, Problem, Warn
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import listing
from metanorm.source import Span


@problem("MN0603")
@dataclass(frozen=True)
class ClauseConflict(Problem):
    """Two clauses that exclude each other.

    ### What it means

    A norm has one `reduce` or one `mix`, and at most one `shift`, `scale`,
    `affine` and `output`. More statistics are written as equations.

    ### Example

    ```norm
    norm TwoPools {
      input  x[N, C, *S]
      reduce *S
      reduce C, *S
    }
    ```

    ### Fix

    Keep one. To combine several statistics, name them with `stat` and `mix` them, or
    write `let a = normalize(x over *S)` and combine the values.

    ```norm
    norm TwoPools {
      input x[N, C, *S]
      stat  inst over *S
      stat  layer over C, *S
      mix   inst, layer by softmax
    }
    ```
    """

    span: Span
    clause: str
    first: Span
    other: str

    def message(self) -> str:
        if self.clause == self.other:
            return f"`{self.clause}` stands twice in this norm"
        return f"`{self.clause}` and `{self.other}` exclude each other"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.first, text=f"`{self.other}` is here"),)

    def helps(self) -> tuple[str, ...]:
        if self.clause in ("reduce", "mix"):
            return ("several statistics are named with `stat` and joined with `mix`",)
        if self.clause == "output":
            return ("several results stand behind one `output`: `output y, mean`",)
        return ("keep one of them",)


@problem("MN0604")
@dataclass(frozen=True)
class ClauseWithoutReduce(Problem):
    """A clause that needs `reduce`, without one.

    ### What it means

    `shift` and `scale` change what `reduce` does, and `track` belongs to `reduce` or to
    the `stat` before it.

    ### Example

    ```norm
    norm Loose(momentum = 0.1) {
      input x[N, C]
      track momentum
      affine C
    }
    ```

    ### Fix

    Add `reduce` with the axes to pool, or remove the clause.

    ```norm
    norm Tight(momentum = 0.1) {
      input  x[N, C]
      reduce N
      track  momentum
      affine C
    }
    ```
    """

    span: Span
    clause: str

    def message(self) -> str:
        return f"`{self.clause}` without `reduce`"

    def helps(self) -> tuple[str, ...]:
        return ("add `reduce` with the axes to pool",)


@problem("MN0607")
@dataclass(frozen=True)
class ClausesUnused(Warn):
    """What the clauses compute is not used.

    ### What it means

    `output` takes the place of what the clauses would have given. Here it does not read
    `normalized`, `mean` or `var`, so the clauses do nothing.

    ### Example

    ```norm
    norm Ignored {
      input  x[N, C]
      reduce C
      output 2 * x
    }
    ```

    ### Fix

    Use `normalized` in the output, or remove the clauses.

    ```norm
    norm Used {
      input  x[N, C]
      reduce C
      output 2 * normalized
    }
    ```
    """

    span: Span
    clauses: tuple[str, ...]

    def message(self) -> str:
        if len(self.clauses) > 1:
            return f"{listing(self.clauses)} have no effect: the output does not use them"
        return f"{listing(self.clauses)} has no effect: the output does not use it"

    def helps(self) -> tuple[str, ...]:
        return ("`normalized` is what the clauses have produced",)
