"""MN05xx: values, arguments and defaults."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.model import Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.source import Span


@problem("MN0501")
@dataclass(frozen=True)
class WrongKind(Problem):
    """A value of the wrong kind.

    ### What it means

    Arithmetic takes numbers. An index chooses rows and pools, edges and matrices pool, moments
    have fields, and `where` takes a condition.

    ### Example

    ```norm
    norm Labelled {
      input  x[N, C], label: index[N]
      output x * label
    }
    ```

    ### Fix

    Use the value as what it is: `table[label]`, `over N: label`, `s.mean`.

    ```norm
    norm Labelled {
      input  x[N, C], label: index[N] of K = num_classes
      param  gain[K, C] = 1
      output x * gain[label]
    }
    ```
    """

    span: Span
    actual: str
    expected: str
    hint: str = ""

    def message(self) -> str:
        return f"expected {self.expected}, found {self.actual}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()


@problem("MN0504")
@dataclass(frozen=True)
class NotConstant(Problem):
    """A number is needed that is known when the module is constructed.

    ### What it means

    Defaults, initial values, bounds and momenta are numbers made of literals, hyperparameters and
    (for initial values) the sizes of fixed axes. They cannot depend on data.

    ### Example

    ```norm
    norm Started {
      input  x[N, C]
      param  gain[C] = mean(x over N)
      output gain * x
    }
    ```

    ### Fix

    Write a number, or a hyperparameter.

    ```norm
    norm Started(start = 0.5) {
      input  x[N, C]
      param  gain[C] = 2 * start
      output gain * x
    }
    ```
    """

    span: Span
    what: str
    hint: str = ""

    def message(self) -> str:
        return f"{self.what} must be known when the module is constructed"

    def helps(self) -> tuple[str, ...]:
        return (self.hint or "write a number, or the name of a hyperparameter",)


@problem("MN0505")
@dataclass(frozen=True)
class BadDefault(Problem):
    """A default that does not fit.

    ### What it means

    The default of a hyperparameter is of its sort; a matrix is `eye`, `ones` or, from Python, a
    tensor. The default of an input is another input or a constant, and the first input has
    none.

    ### Example

    ```norm
    norm Grouped(groups: int = 2.5) {
      input  x[N, C]
      reduce C: blocks(groups)
    }
    ```

    ### Fix

    Write a default of the right sort, or none.

    ```norm
    norm Grouped(groups: int = 2) {
      input  x[N, C]
      reduce C: blocks(groups)
    }
    ```
    """

    span: Span
    name: str
    expected: str

    def message(self) -> str:
        return f"the default of `{self.name}` must be {self.expected}"

    def helps(self) -> tuple[str, ...]:
        if self.expected.startswith("left out"):
            return ("remove it",)
        return ("write such a default, or none: then the value must be given",)


@problem("MN0506")
@dataclass(frozen=True)
class BadInterval(Problem):
    """An interval that is empty or does not hold the initial value.

    ### What it means

    `param p = v in [lo, hi]` is kept between lo and hi by the projection step, and starts there.

    ### Example

    ```norm
    norm Gated {
      input  x[N, C]
      param  gate[C] = 2 in [0, 1]
      output gate * x
    }
    ```

    ### Fix

    Choose an initial value inside the interval.

    ```norm
    norm Gated {
      input  x[N, C]
      param  gate[C] = 1 in [0, 1]
      output gate * x
    }
    ```
    """

    span: Span
    reason: str

    def message(self) -> str:
        return f"the interval does not fit: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return ("write `param p = v in [low, high]` with low <= v <= high",)


@problem("MN0507")
@dataclass(frozen=True)
class CannotLookUp(Problem):
    """Rows of a table cannot be chosen like this.

    ### What it means

    `table[label]` needs an index that says which axis it chooses rows of (`label: index[N] of K
    = classes`), and a table that has this axis. `p[0]` needs a value with a single axis of
    fixed length.

    ### Example

    ```norm
    norm Conditional {
      input  x[N, C], label: index[N]
      param  gamma[K = 10, C] = 1
      output gamma[label] * x
    }
    ```

    ### Fix

    Declare the table axis: `label: index[N] of K = num_classes`.

    ```norm
    norm Conditional {
      input  x[N, C], label: index[N] of K = 10
      param  gamma[K, C] = 1
      output gamma[label] * x
    }
    ```
    """

    span: Span
    reason: str
    declared: Span | None = None
    hint: str = ""

    def message(self) -> str:
        return f"cannot look this up: {self.reason}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="declared here"),) if self.declared else ()

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()
