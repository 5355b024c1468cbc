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


@problem("MN0405")
@dataclass(frozen=True)
class NeedsOver(Problem):
    """A statistic without a pool, or a pool where none belongs.

    ### What it means

    Statistics say over which axes they are taken: `mean(x over *S)`. Elementwise functions do
    not pool.

    ### Example

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x)
    }
    ```

    ### Fix

    Add `over` and the axes, or remove it.

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
    }
    ```
    """

    span: Span
    function: str
    needs: bool = True

    def message(self) -> str:
        return f"`{self.function}` {'needs' if self.needs else 'takes no'} `over`"

    def helps(self) -> tuple[str, ...]:
        if self.function == "affine":
            return ("the axes of weight and bias stand behind `per`: `affine(x per C)`",)
        if self.function == "count":
            return ("say which axes are pooled: `count(over C)`",)
        if self.needs:
            return (f"say which axes are pooled: `{self.function}(x over C)`",)
        return ("only statistics pool: `metanorm list operations` shows them",)


# Options of torch's reductions, and what does here what they do there.
OPTIONS_ELSEWHERE = {
    **dict.fromkeys(
        ("keepdim", "keepdims"), "remove it: values combine by the names of their axes"
    ),
    **dict.fromkeys(("dim", "dims", "axis", "axes"), "axes are named: `mean(x over C, *S)`"),
    **dict.fromkeys(("unbiased", "correction"), "`ddof = 1` divides by n - 1, as torch does"),
    "dtype": "statistics are in float32 at least; `cast(e)` rounds",
}


@problem("MN0406")
@dataclass(frozen=True)
class BadOption(Problem):
    """A statistic gets an option that it does not have.

    ### What it means

    `var` and `std` take `ddof = 0` or `ddof = 1`; `var` takes `about = e`; `mean`, `var`,
    `moments` and `normalize` take `track m`.

    ### Example

    ```norm
    norm Odd {
      input  x[N, C]
      output x - mean(x over C, ddof = 1)
    }
    ```

    ### Fix

    Remove the option.

    ```norm
    norm Unbiased(eps = 1e-5) {
      input  x[N, C]
      output x / sqrt(var(x over C, ddof = 1) + eps)
    }
    ```
    """

    span: Span
    option: str
    function: str
    reason: str = ""
    candidates: tuple[str, ...] = ()
    hint: str = ""
    passed: tuple[str, ...] = ()  # options that the call has already

    def message(self) -> str:
        return self.reason or f"`{self.function}` has no option `{self.option}`"

    def helps(self) -> tuple[str, ...]:
        if self.hint:
            return (self.hint,)
        if self.option in OPTIONS_ELSEWHERE and not self.reason:
            return (OPTIONS_ELSEWHERE[self.option],)
        return (
            did_you_mean(self.option, self._unused())
            or list_available(self.candidates)
            or ("remove it",)
        )

    def fixes(self) -> tuple[Fix, ...]:
        unknown = not (self.reason or self.hint or self.option in OPTIONS_ELSEWHERE)
        return nearest_name_fix(self.span, self.option, self._unused()) if unknown else ()

    def _unused(self) -> list[str]:
        return [name for name in self.candidates if name not in self.passed]


@problem("MN0407")
@dataclass(frozen=True)
class CannotTrack(Problem):
    """Running statistics of something that cannot be kept.

    ### What it means

    `track` keeps a value between calls, in a buffer on the axes of fixed length; free axes are
    averaged away. In a norm for weights, gradients or losses there is no training of
    statistics.

    ### Example

    ```norm
    norm Kept(momentum = 0.1) for gradient {
      input  grad[O, *I]
      output grad - mean(grad over *I track momentum)
    }
    ```

    ### Fix

    Remove `track`.

    ```norm
    norm Kept(momentum = 0.1) {
      input  x[N, C, *S]
      output x - mean(x over N, *S track momentum)
    }
    ```
    """

    span: Span
    reason: str

    def message(self) -> str:
        return f"this cannot be tracked: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return ("remove `track`",)


@problem("MN0408")
@dataclass(frozen=True)
class UnknownStat(Problem):
    """`mix` joins something that is no statistic, or by something that makes no weights.

    ### What it means

    `mix a, b by softmax` joins the means and variances of statistics that `stat` has named.
    The learned weights are made to sum to one by `softmax` or `sparsestmax(radius)`.

    ### Example

    ```norm
    norm Mixed {
      input x[N, C, *S]
      stat  inst over *S
      mix   inst, layer by softmax
    }
    ```

    ### Fix

    Name the statistic: `stat layer over C, *S`.

    ```norm
    norm Mixed {
      input x[N, C, *S]
      stat  inst over *S
      stat  layer over C, *S
      mix   inst, layer by softmax
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    is_by: bool = False

    def message(self) -> str:
        if self.is_by:
            return f"`{self.name}` does not make weights to mix by"
        return f"`{self.name}` is not a statistic"

    def helps(self) -> tuple[str, ...]:
        if self.is_by:
            return ("statistics are mixed by `softmax` or by `sparsestmax(radius)`",)
        named = f"name it with `stat {self.name} over ...`"
        return did_you_mean(self.name, self.candidates) or (named,)

    def fixes(self) -> tuple[Fix, ...]:
        return () if self.is_by else nearest_name_fix(self.span, self.name, self.candidates)
