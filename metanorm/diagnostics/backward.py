"""MN10xx: backward passes that norms state."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.model import Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import listing
from metanorm.source import Span


@problem("MN1001")
@dataclass(frozen=True)
class GradientAxes(Problem):
    """A stated gradient does not have the axes of its input.

    ### What it means

    Each element of an input has a gradient of its own, so what `gradient x = ...` says has the
    axes of `x`: all of them, and no others.

    ### Example

    ```norm
    norm Damped {
      input  x[N, C]
      output x - mean(x over C)
      backward {
        gradient x = mean(grad over C)
      }
    }
    ```

    ### Fix

    Combine it with a value on these axes, such as the arriving gradient.

    ```norm
    norm Damped {
      input  x[N, C]
      output x - mean(x over C)
      backward {
        gradient x = grad - mean(grad over C)
      }
    }
    ```
    """

    span: Span
    name: str
    expected: tuple[str, ...]
    actual: tuple[str, ...]
    declared: Span

    def message(self) -> str:
        actual = listing(self.actual) if self.actual else "no axes"
        expected = listing(self.expected) if self.expected else "none"
        return f"the gradient of `{self.name}` has {actual}, the input has {expected}"

    def label(self) -> str:
        missing = [axis for axis in self.expected if axis not in self.actual]
        surplus = [axis for axis in self.actual if axis not in self.expected]
        if missing:
            return f"{listing(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        return f"the input does not have {listing(surplus)}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.declared, text="the input"),)

    def helps(self) -> tuple[str, ...]:
        surplus = [axis for axis in self.actual if axis not in self.expected]
        if surplus:
            return (f"pool it away, for example with `sum(... over {surplus[0]})`",)
        return ("each element has a gradient of its own: use a value with all of its axes",)


@problem("MN1002")
@dataclass(frozen=True)
class NoArrivingGradient(Problem):
    """The arriving gradient is read where none has arrived.

    ### What it means

    `grad` is the gradient of the output, which a backward pass begins with. Only `backward` can
    read it: when the output is computed, there is no gradient yet.

    ### Example

    ```norm
    norm Clipped(limit = 1) {
      input  x[N, C]
      let    g = clamp(grad, -limit, limit)
      output x - mean(x over C)
    }
    ```

    ### Fix

    Move what reads it into `backward`. To change gradients of weights, write a norm
    `for gradient`, whose input they are.

    ```norm
    norm Clipped(limit = 1) {
      input  x[N, C]
      output x - mean(x over C)
      backward {
        let      g = clamp(grad, -limit, limit)
        gradient x = g - mean(g over C)
      }
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "`grad` is read outside of `backward`"

    def label(self) -> str:
        return "no gradient has arrived yet"

    def helps(self) -> tuple[str, ...]:
        return ("move it into the backward pass: `backward { gradient x = ... }`",)


@problem("MN1003")
@dataclass(frozen=True)
class EmptyBackward(Problem):
    """A backward pass states nothing.

    ### What it means

    `backward` says what the gradient of an input is, or what a backward pass stores in buffers.
    Without either, all gradients are derived, as they are without `backward`.

    ### Example

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
      backward {
        let g = grad - mean(grad over C)
      }
    }
    ```

    ### Fix

    State a gradient or an update, or leave `backward` out.

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
      backward {
        gradient x = grad - mean(grad over C)
      }
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "`backward` states no gradient and no update"

    def helps(self) -> tuple[str, ...]:
        return ("say what the gradient of an input is: `gradient x = ...`",)
