"""MN04xx: pools and statistics."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available, listing
from metanorm.source import Span


@problem("MN0401")
@dataclass(frozen=True)
class CoversNothing(Problem):
    """A pool covers nothing.

    ### What it means

    The value that is pooled does not have this axis, so there is nothing to pool along it. Or
    `over` names no axis at all.

    ### Example

    ```norm
    norm Flat {
      input  x[N, C, *S]
      param  gain[C] = 1
      output x * mean(gain over N)
    }
    ```

    ### Fix

    Pool over an axis that the value has.

    ```norm
    norm Flat {
      input  x[N, C, *S]
      param  gain[C] = 1
      output x * mean(gain over C)
    }
    ```
    """

    span: Span
    axis: str  # empty where none is named
    axes: tuple[str, ...]

    def message(self) -> str:
        if not self.axis:
            return "the pool covers nothing: it names no axis"
        return f"the pool covers nothing: the value has no axis `{self.axis}`"

    def helps(self) -> tuple[str, ...]:
        if not self.axis:
            some = self.axes[0] if self.axes else "C"
            return (f"name the axes to pool: `over {some}`, with options behind them",)
        return (f"it has {listing(self.axes)}" if self.axes else "it is a single number",)


@problem("MN0402")
@dataclass(frozen=True)
class UnknownMatrix(Problem):
    """A matrix that does not exist.

    ### What it means

    Behind `axis:` stands how the axis is pooled: `blocks(g)`, `chunks(k)`, `interleave(g)`,
    `window(k)`, `causal`, or the name of an index, edges or matrix. Without it, all of the axis
    is one pool.

    ### Example

    ```norm
    norm Grouped(groups: int) {
      input  x[N, C, *S]
      reduce C: block(groups), *S
    }
    ```

    ### Fix

    Correct the name.

    ```norm
    norm Grouped(groups: int) {
      input  x[N, C, *S]
      reduce C: blocks(groups), *S
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    is_value: bool = False

    def message(self) -> str:
        return f"`{self.name}` is not a way to pool an axis"

    def label(self) -> str:
        return "this is a value, but no index, edges or matrix" if self.is_value else ""

    def helps(self) -> tuple[str, ...]:
        return did_you_mean(self.name, self.candidates) or list_available(self.candidates)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self.candidates)


@problem("MN0403")
@dataclass(frozen=True)
class WrongAxis(Problem):
    """A matrix, index or mask on an axis that it is not for.

    ### What it means

    A `matrix[N, N]` pools axis N, an `index[V]` pools axis V, and blocks and windows pool
    single axes.

    ### Example

    ```norm
    norm Crossed(U: matrix[N, N] = eye) {
      input  x[N, C, *S]
      reduce C: U, *S
    }
    ```

    ### Fix

    Use it on its own axis, or declare it on this one.

    ```norm
    norm Crossed(V: matrix[C, C] = eye) {
      input  x[N, C, *S]
      reduce C: V, *S
    }
    ```
    """

    span: Span
    name: str
    axis: str
    reason: str
    hint: str
    declared: Span | None = None

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)

    def message(self) -> str:
        return f"`{self.name}` cannot pool axis `{self.axis}`: {self.reason}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="declared here"),) if self.declared else ()


@problem("MN0404")
@dataclass(frozen=True)
class BadMatrixArgument(Problem):
    """A matrix gets an argument that it cannot use.

    ### What it means

    The number of blocks, the size of a chunk and the width of a window are positive whole
    numbers: written out, or integer hyperparameters.

    ### Example

    ```norm
    norm Grouped(groups = 32) {
      input  x[N, C, *S]
      reduce C: blocks(groups), *S
    }
    ```

    ### Fix

    Declare the hyperparameter as `groups: int = 32`.

    ```norm
    norm Grouped(groups: int = 32) {
      input  x[N, C, *S]
      reduce C: blocks(groups), *S
    }
    ```
    """

    span: Span
    matrix: str
    reason: str
    hint: str = ""

    def message(self) -> str:
        return f"`{self.matrix}` {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()
