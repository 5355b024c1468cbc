"""MN04xx: statistics, their options and their running values."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available
from metanorm.source import Span


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
        if self.function == "scan":
            return ("say along which axis: `scan(x over T, decay = a)`",)
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
    averaged away. Evaluation uses what training has kept. Norms for weights, gradients, steps
    and losses have no evaluation with the statistics of training: a moving average that they
    compute with is a `buffer` with an `update`.

    ### Example

    ```norm
    norm Kept(momentum = 0.1) for gradient {
      input  grad[O, *I]
      output grad - mean(grad over *I track momentum)
    }
    ```

    ### Fix

    Remove `track`, or keep the average in a buffer.

    ```norm
    norm Kept(momentum = 0.1) for gradient {
      input  grad[O, *I]
      buffer running_mean[O] = 0
      let    moved = running_mean + momentum * (mean(grad over *I) - running_mean)
      update running_mean = moved
      output grad - moved
    }
    ```
    """

    span: Span
    reason: str
    hint: str = "remove `track`"

    def message(self) -> str:
        return f"this cannot be tracked: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)


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
