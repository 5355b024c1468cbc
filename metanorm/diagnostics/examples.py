"""MN09xx: examples that do not fit their norm."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available, prose
from metanorm.source import Span


@problem("MN0901")
@dataclass(frozen=True)
class UnknownInExample(Problem):
    """An example gives or expects what the norm does not have.

    ### What it means

    Before `gives` stand inputs, arguments of the constructor, parameters and buffers;
    behind it outputs, and buffers as they are after the call.

    ### Example

    ```norm
    norm Centred {
      input  y[N, C]
      output y - mean(y over C)
      example x = [[1, 3]] gives [[-1, 1]]
    }
    ```

    ### Fix

    Take the names that the norm has.

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
      example x = [[1, 3]] gives [[-1, 1]]
    }
    ```
    """

    span: Span
    name: str
    what: str
    candidates: tuple[str, ...]

    def message(self) -> str:
        return f"`{self.name}` is not {self.what}"

    def helps(self) -> tuple[str, ...]:
        return did_you_mean(self.name, self.candidates) or list_available(self.candidates)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self.candidates)


@problem("MN0902")
@dataclass(frozen=True)
class BadValueInExample(Problem):
    """A value of an example that cannot be what it stands for.

    ### What it means

    A tensor is written as lists in lists, one level for each axis, and all lists of a level have
    the same length. Its elements are numbers, `nan` or `inf`; those of a mask are `true` or
    `false`, those of an index whole numbers. A parameter or a buffer may be a single number,
    for all of its elements, and so may what is expected. What a switch such as `affine = false`
    leaves out of the norm has no value.

    ### Example

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
      example x = [1, 3] gives [-1, 1]
    }
    ```

    ### Fix

    Write a list for each axis, also for one of length one.

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
      example x = [[1, 3]] gives [[-1, 1]]
    }
    ```
    """

    span: Span
    name: str
    expected_kind: str
    actual: str
    hint: str = ""

    def message(self) -> str:
        return f"`{self.name}` is {self.expected_kind}, and this is {self.actual}"

    def helps(self) -> tuple[str, ...]:
        return (
            self.hint or "a tensor is lists in lists, one level for each axis: `[[1, 2], [3, 4]]`",
        )


@problem("MN0903")
@dataclass(frozen=True)
class IncompleteExample(Problem):
    """An example does not say all that a call needs.

    ### What it means

    A call needs every input and argument that has no default. Lengths are read off the tensors
    where they can be; those of several groups such as `*B, *D` cannot. A parameter that begins
    with random numbers has to be given, since nothing could be expected of it.

    ### Example

    ```norm
    norm Grouped(groups: int, eps = 0) {
      input  x[N, C]
      reduce C: blocks(groups)
      example x = [[1, 3]] gives [[-1, 1]]
    }
    ```

    ### Fix

    Give what is missing by its name.

    ```norm
    norm Grouped(groups: int, eps = 0) {
      input  x[N, C]
      reduce C: blocks(groups)
      example x = [[1, 3]], groups = 1 gives [[-1, 1]]
    }
    ```
    """

    span: Span
    missing: tuple[tuple[str, str], ...]  # what it is, and its name

    def message(self) -> str:
        return f"the example does not give {prose([f'{what} `{n}`' for what, n in self.missing])}"

    def helps(self) -> tuple[str, ...]:
        values = ", ".join(f"{name} = ..." for _, name in self.missing)
        return (f"write `{values}` before `gives`",)
