"""MN03xx: axes whose lengths are wrong, contradict each other, or are not known."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.model import Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.source import Span


@problem("MN0303")
@dataclass(frozen=True)
class TwoSizes(Problem):
    """An axis is given two sizes.

    ### What it means

    An axis has one length, wherever it stands.

    ### Example

    ```norm
    norm Paired {
      input  x[N, C = num_features], y[N, C = num_channels]
      output x - y
    }
    ```

    ### Fix

    Name the size once; the other places say `C`.

    ```norm
    norm Paired {
      input  x[N, C = num_features], y[N, C]
      output x - y
    }
    ```
    """

    span: Span
    axis: str
    size: str
    first: Span
    first_size: str

    def message(self) -> str:
        return f"axis `{self.axis}` has two sizes, `{self.first_size}` and `{self.size}`"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.first, text=f"first given as `{self.first_size}`"),)

    def helps(self) -> tuple[str, ...]:
        return (f"name the size once; elsewhere write `{self.axis}`",)


@problem("MN0304")
@dataclass(frozen=True)
class FreeAxis(Problem):
    """A parameter on an axis whose length is not fixed.

    ### What it means

    A parameter is created with the module, so the lengths of its axes must be known then. The
    length of this axis changes from call to call: it is the axis that running statistics
    average over, it belongs to an index, a mask or edges, or it stands for any number of axes.

    ### Example

    ```norm
    norm PerPixel {
      input  x[N, C, *S]
      param  gain[*S] = 1
      output gain * x
    }
    ```

    ### Fix

    Put the parameter on another axis, or fix the length in the `input`: `*S = spatial_shape`.

    ```norm
    norm PerPixel {
      input  x[N, C, *S = spatial_shape]
      param  gain[*S] = 1
      output gain * x
    }
    ```
    """

    span: Span
    axis: str
    what: str
    why: str
    declared: Span

    def message(self) -> str:
        return f"{self.what} on axis `{self.axis}`, whose length is not fixed"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text=f"`{self.axis}` {self.why}"),)

    def helps(self) -> tuple[str, ...]:
        bare = self.axis.lstrip("*")
        name = "normalized_shape" if self.axis.startswith("*") else f"num_{bare.lower()}"
        return (f"to fix it when the module is constructed, declare `{self.axis} = {name}`",)


@problem("MN0308")
@dataclass(frozen=True)
class BadSplit(Problem):
    """An axis cannot be split like this.

    ### What it means

    `axis C = (G = groups, D)` splits an axis into parts, outermost first. All parts but one
    have a given length; the parts are new names, and the axis is a single one that is split
    once. `axis C = (I = half) + B` cuts an axis into runs of positions instead, one behind the
    other, under the same conditions; it may be cut several times.

    ### Example

    ```norm
    norm Halves {
      input  x[N, C, *S]
      axis   C = (G, D)
      reduce D, *S
    }
    ```

    ### Fix

    Give the length of all parts but one: `axis C = (G = groups, D)`.

    ```norm
    norm Halves(groups: int) {
      input  x[N, C, *S]
      axis   C = (G = groups, D)
      reduce D, *S
    }
    ```
    """

    span: Span
    axis: str
    reason: str
    hint: str

    def message(self) -> str:
        return f"axis `{self.axis}` cannot be split like this: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)


@problem("MN0309")
@dataclass(frozen=True)
class BadLength(Problem):
    """A length that no axis can have.

    ### What it means

    The length of an axis is a positive whole number: written out, or an integer
    hyperparameter, or a name of its own that the constructor asks for.

    ### Example

    ```norm
    norm Padded(width = 8) {
      input  x[N, C = width]
      reduce C
    }
    ```

    ### Fix

    Declare the hyperparameter as an integer, or leave it out: `x[N, C = width]` alone asks for
    a whole number.

    ```norm
    norm Padded(width: int = 8) {
      input  x[N, C = width]
      reduce C
    }
    ```
    """

    span: Span
    axis: str
    hyper: str = ""

    def message(self) -> str:
        if self.hyper:
            return (
                f"the length of axis `{self.axis}` is a whole number, "
                f"and `{self.hyper}` is not declared as one"
            )
        return f"the length of axis `{self.axis}` must be a positive whole number"

    def helps(self) -> tuple[str, ...]:
        if self.hyper:
            return (f"declare the hyperparameter as `{self.hyper}: int`",)
        return (f"write it out, or ask for it: `{self.axis} = num_{self.axis.lower()}`",)


@problem("MN0310")
@dataclass(frozen=True)
class NoLength(Problem):
    """An axis that only an input has which may be left out.

    ### What it means

    The length of an axis is that of an input which has it. A call may leave out an input that has
    a default, and an index that says what is pooled: nothing tells the length of the axis then.

    ### Example

    ```norm
    norm Trusting {
      input  x[N, C], trust[N, K] = 1
      output x * mean(trust over K)
    }
    ```

    ### Fix

    Give the axis a length, or put it on an input that is always there as well.

    ```norm
    norm Trusting {
      input  x[N, C], trust[N, K = num_k] = 1
      output x * mean(trust over K)
    }
    ```
    """

    span: Span
    axis: str
    name: str

    def message(self) -> str:
        return f"axis `{self.axis}` has no length where `{self.name}` is left out"

    def helps(self) -> tuple[str, ...]:
        bare = self.axis.lstrip("*")
        name = "shape" if self.axis.startswith("*") else f"num_{bare.lower()}"
        return (
            f"declare its length, `{self.axis} = {name}`",
            "or put it on an input that is always there as well",
        )
