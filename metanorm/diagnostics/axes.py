"""MN03xx: axes that are unknown, contradict each other, or cannot be sized."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import SAFE, nearest_name_fix, replacement_fix
from metanorm.diagnostics.model import Fix, Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import listing, nearest
from metanorm.source import Span


@problem("MN0301")
@dataclass(frozen=True)
class AxisTwice(Problem):
    """An axis is listed twice.

    ### What it means

    Each axis of a tensor has a name of its own; a pool names each axis once.

    ### Example

    ```norm
    norm Square {
      input  x[N, N]
      reduce N
    }
    ```

    ### Fix

    Give the second axis another name. Axes of equal length are renamed into each other with
    `v[N -> M]`. An input that says how the positions of an axis pool is declared as such:
    `weights: matrix[N, N]`.

    ```norm
    norm Square {
      input  x[N, M]
      reduce M
    }
    ```
    """

    span: Span
    axis: str
    first: Span
    square: str = ""  # the input that may be meant as a matrix

    def message(self) -> str:
        return f"axis `{self.axis}` is listed twice"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.first, text="first listed here"),)

    def helps(self) -> tuple[str, ...]:
        if self.square:
            matrix = f"`{self.square}: matrix[{self.axis}, {self.axis}]`"
            return (f"write {matrix} if it says how the positions of `{self.axis}` pool",)
        return ("each axis of a tensor has a name of its own",)


@problem("MN0302")
@dataclass(frozen=True)
class UnknownAxis(Problem):
    """An axis that no input has.

    ### What it means

    Axes are introduced by `input`, by splitting another one (`axis C = (G = groups, D)`), by a
    parameter that says how long they are (`param w[K = 3] = 1`), or by renaming (`v[C -> D]`).

    ### Example

    ```norm
    norm Misspelt {
      input  x[batch, channel, *space]
      reduce *space, chanel
    }
    ```

    ### Fix

    Correct the name. Where a parameter has an axis of its own, give its length: `[K = 3]`, or
    `[K = num_modes]` to ask for it in the constructor.

    ```norm
    norm Spelt {
      input  x[batch, channel, *space]
      reduce *space, channel
    }
    ```
    """

    span: Span
    axis: str
    candidates: tuple[str, ...]
    declared: Span | None = None
    can_size: bool = False
    alone: bool = False  # it stands where no group of axes can
    is_measured: bool = False  # its length or its positions are asked for

    def message(self) -> str:
        return f"unknown axis `{self.axis}`"

    def label(self) -> str:
        return "no input has this axis"

    def secondary(self) -> tuple[Label, ...]:
        if not self.declared or not self.candidates:
            return ()
        return (Label(span=self.declared, text=f"the axes are {listing(self.candidates)}"),)

    def helps(self) -> tuple[str, ...]:
        bare = {name.lstrip("*"): name for name in self.candidates}
        if self.axis.lstrip("*") in bare:
            return (f"it is introduced as `{bare[self.axis.lstrip('*')]}`",)
        guess = nearest(self.axis.lstrip("*"), bare)
        if guess:
            return (f"did you mean `{bare[guess]}`?",)
        if self.can_size:
            return (f"to introduce it here, say how long it is: `{self.axis} = 3`",)
        single = next((name for name in reversed(self.candidates) if name in bare), "")
        if not self.is_measured or not single or self.axis.startswith("*"):
            return ("axes are introduced by `input`",)
        copy = f"[{single} -> {self.axis}]"
        return (
            "axes are introduced by `input`, and copies of one by renaming it in a value: "
            f"`v{copy}`, `position({single}){copy}`",
        )

    def fixes(self) -> tuple[Fix, ...]:
        bare = {name.lstrip("*"): name for name in self.candidates}
        written = self.axis.lstrip("*")
        if written in bare:  # with a `*` too many; or too few, where one axis may be meant
            starred = bare[written].startswith("*")
            return (
                ()
                if starred and self.alone
                else (replacement_fix(self.span, self.axis, bare[written], SAFE),)
            )
        return tuple(
            replacement_fix(self.span, self.axis, bare[fix.replacement], fix.applicability)
            for fix in nearest_name_fix(self.span, written, bare)
        )


@problem("MN0305")
@dataclass(frozen=True)
class OutputAxes(Problem):
    """The output does not have the axes of the input, and no `let` says that others are meant.

    ### What it means

    A normalizer gives a tensor of the input's shape; a loss gives a single number. A norm for
    activations whose first output has other axes says which, in a `let`, so that an axis that was
    forgotten is told from one that is meant. Further outputs may have any axes.

    ### Example

    ```norm
    norm Averages {
      input  x[N, C]
      output mean(x over C)
    }
    ```

    ### Fix

    Combine the value with the input, or return it as a further output: `output x - m, m`. Or say
    its axes, which are the dimensions of the result, in this order.

    ```norm
    norm Centred {
      input  x[N, C]
      let    m = mean(x over C)
      output x - m, m
    }

    norm Scores {
      input  q[N, T, D], k[N, S, D]
      let    scores[N, T, S] = sum(q * k over D)
      output scores
    }
    ```
    """

    span: Span
    expected: tuple[str, ...]
    actual: tuple[str, ...]
    declared: Span
    target: str = "activation"

    def message(self) -> str:
        plural = "es" if len(self.actual) > 1 else "is"
        actual = f"the ax{plural} {listing(self.actual)}" if self.actual else "no axes"
        if self.target == "loss":
            return f"the output of a loss is a single number, but this has {actual}"
        return f"the output has {actual}, the input has {listing(self.expected)}"

    def label(self) -> str:
        missing = [axis for axis in self.expected if axis not in self.actual]
        surplus = [axis for axis in self.actual if axis not in self.expected]
        if self.target == "loss":
            return f"not pooled over {listing(surplus)}"
        if missing:
            return f"{listing(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        return f"the input does not have {listing(surplus)}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="the input"),)

    def helps(self) -> tuple[str, ...]:
        if self.target == "loss":
            return ("pool what is left, for example with `mean(... over C)`",)
        surplus = [axis for axis in self.actual if axis not in self.expected]
        pooled = f"pool it away, for example with `mean(... over {surplus[0]})`" if surplus else ""
        if self.target != "activation":
            return (pooled or "what such a norm returns takes the place of its first input",)
        if not self.actual:
            hint = "a single number is what a norm `for loss` returns, or a further output"
            return (f"{hint}: `output y, total`",)
        meant = f"if these are meant, say so: `let y[{', '.join(self.actual)}] = ...`, `output y`"
        return (pooled, meant) if pooled else (meant, "further outputs may have any: `output y, m`")


@problem("MN0306")
@dataclass(frozen=True)
class AmbiguousAxes(Problem):
    """More than one group of axes of unknown number.

    ### What it means

    `*S` stands for zero or more axes. With two such groups in one tensor, nobody can tell where
    one ends, unless the shape of all but one is given to the constructor.

    ### Example

    ```norm
    norm Unclear {
      input  x[*B, *D]
      reduce *D
    }
    ```

    ### Fix

    Name the shape of one: `x[*B, *D = normalized_shape]`.

    ```norm
    norm Clear {
      input  x[*B, *D = normalized_shape]
      reduce *D
    }
    ```
    """

    span: Span
    axes: tuple[str, ...]

    def message(self) -> str:
        return f"{listing(self.axes)} each stand for any number of axes"

    def helps(self) -> tuple[str, ...]:
        return (f"give the shape of one to the constructor: `{self.axes[-1]} = normalized_shape`",)


@problem("MN0307")
@dataclass(frozen=True)
class BadRename(Problem):
    """An axis cannot be renamed like this.

    ### What it means

    `v[N -> M]` calls the axis N of v by the name M. v must have N and must not have M, and both
    are single axes or both groups of axes.

    ### Example

    ```norm
    norm Renamed {
      input  x[N, M]
      output x - mean(x over M)[M -> N]
    }
    ```

    ### Fix

    Rename an axis that the value has into one that it does not have.

    ```norm
    norm Renamed {
      input  x[N, M]
      let    m = mean(x over M)
      output x - m - m[N -> M]
    }
    ```
    """

    span: Span
    old: str
    new: str
    reason: str
    hint: str = "a single axis that the value has gets a name that it does not have"

    def message(self) -> str:
        return f"cannot rename `{self.old}` to `{self.new}`: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)


@problem("MN0311")
@dataclass(frozen=True)
class NothingInCells(Problem):
    """A value that is to be returned for each cell has no cells.

    ### What it means

    `cells(m)` returns a statistic with one row for each group, block or segment that it was pooled
    over, instead of spreading it over the positions of the axis. A value has such cells where it is
    computed of pools by `blocks`, `chunks`, `interleave`, an index or offsets, and of nothing that
    varies along the axis itself. A statistic of whole axes has no cells, and windows keep the axis.

    ### Example

    ```norm
    norm Spread {
      input  x[V, C], batch: index[V]
      let    m = mean(x over C)
      output x - m, m = cells(m)
    }
    ```

    ### Fix

    Pool by groups or blocks, or return the value as it is.

    ```norm
    norm Counted {
      input  x[V, C], batch: index[V]
      let    m = mean(x over V: batch)
      output x - m, m = cells(m)
    }
    ```
    """

    span: Span
    axes: tuple[str, ...]

    def message(self) -> str:
        plural = "es" if len(self.axes) > 1 else "is"
        has = f"it has the ax{plural} {listing(self.axes)}" if self.axes else "it is a number"
        return f"this value has no cells: {has}"

    def helps(self) -> tuple[str, ...]:
        return ("leave `cells` out, or pool by `blocks(g)`, `chunks(k)`, an index or offsets",)
