"""MN05xx: calls of functions and norms with wrong arguments."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available, listing
from metanorm.source import Span


@problem("MN0502")
@dataclass(frozen=True)
class WrongArguments(Problem):
    """A call with too few, too many or unknown arguments.

    ### What it means

    `metanorm explain NAME` shows how an operation is called; a norm is called with its inputs,
    in order or by name, and hyperparameters by name.

    ### Example

    ```norm
    norm Clipped {
      input  x[N, C]
      output max(x)
    }
    ```

    ### Fix

    Pass the arguments that the operation has.

    ```norm
    norm Clipped {
      input  x[N, C]
      output max(x, 0)
    }
    ```
    """

    span: Span
    function: str
    usage: str
    problem: str
    others: tuple[str, ...] = ()  # further ways to call it

    def message(self) -> str:
        return f"`{self.function}` {self.problem}"

    def helps(self) -> tuple[str, ...]:
        return (f"it is called {listing((self.usage, *self.others), 'or')}",)


@problem("MN0503")
@dataclass(frozen=True)
class UnknownArgument(Problem):
    """A named argument that the called thing does not have.

    ### What it means

    Functions have few named arguments (`clamp(x, max = 1)`); norms are given hyperparameters by
    name, inputs in order or by name, and `affine = false` or `track = false` turns the switches of
    a called norm off.

    ### Example

    ```norm
    norm Clipped {
      input  x[N, C]
      output clamp(x, maximum = 1)
    }
    ```

    ### Fix

    Correct the name.

    ```norm
    norm Clipped {
      input  x[N, C]
      output clamp(x, max = 1)
    }
    ```
    """

    span: Span
    name: str
    function: str
    candidates: tuple[str, ...]
    passed: tuple[str, ...] = ()  # arguments that the call has already

    def message(self) -> str:
        return f"`{self.function}` has no argument `{self.name}`"

    def helps(self) -> tuple[str, ...]:
        if not self.candidates:
            return ("it has no arguments with names",)
        return did_you_mean(self.name, self._unused()) or list_available(self.candidates)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self._unused())

    def _unused(self) -> list[str]:
        return [name for name in self.candidates if name not in self.passed]


@problem("MN0508")
@dataclass(frozen=True)
class CallMismatch(Problem):
    """A norm is called with a tensor whose axes do not fit.

    ### What it means

    The axes of the called norm's input are matched with those of the value by name, and what is
    left on both sides in order; `*S` takes what is left over. Where that is not what is meant, a
    call says which are: `Inner(x, T = C)`, `Inner(x, D = (H, E))`.

    ### Example

    ```norm
    norm Inner {
      input  x[N, C, T]
      reduce T
    }

    norm Outer {
      input  x[N, C]
      output Inner(x)
    }
    ```

    ### Fix

    Call it with a value that has its axes, or write the equations out.

    ```norm
    norm Inner {
      input  x[N, T]
      reduce T
    }

    norm Outer {
      input  x[N, C]
      output Inner(x)
    }
    ```
    """

    span: Span
    norm: str
    reason: str
    declared: Span | None = None
    hint: str = "call it with values that fit, or write its equations out"

    def message(self) -> str:
        return f"`{self.norm}` cannot be called like this: {self.reason}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="declared here"),) if self.declared else ()

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)
