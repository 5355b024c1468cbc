"""MN06xx: the statements of a norm do not fit together."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.source import Span


@problem("MN0601")
@dataclass(frozen=True)
class NoInput(Problem):
    """A norm has no input.

    ### What it means

    Every norm begins with `input`: it names the tensor that is normalized and
    its axes.

    ### Example

    ```norm
    norm Nothing {
      output 1
    }
    ```

    ### Fix

    Add `input x[N, C, *S]`, with the axes of your tensor in their order.

    ```norm
    norm Something {
      input  x[N, C]
      reduce C
    }
    ```
    """

    span: Span
    name: str

    def message(self) -> str:
        return f"norm `{self.name}` has no input"

    def helps(self) -> tuple[str, ...]:
        return ("name the tensor and its axes, for example `input x[N, C, *S]`",)


@problem("MN0602")
@dataclass(frozen=True)
class ComputesNothing(Problem):
    """A norm says nothing about its output.

    ### What it means

    There is neither a clause (`reduce`, `mix`, `affine`) nor an `output`, so the
    result would be the input.

    ### Example

    ```norm
    norm Identity {
      input x[N, C]
    }
    ```

    ### Fix

    Say what is pooled (`reduce C`), or write the result (`output x - mean(x over C)`).

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
    }
    ```
    """

    span: Span
    name: str

    def message(self) -> str:
        return f"norm `{self.name}` computes nothing"

    def helps(self) -> tuple[str, ...]:
        return ("say what is pooled (`reduce C`) or what comes out (`output ...`)",)


@problem("MN0605")
@dataclass(frozen=True)
class Recursion(Problem):
    """A norm calls itself.

    ### What it means

    A norm that is called is put in place of the call. One that calls itself,
    directly or through others, would never end.

    ### Example

    ```norm
    norm Again {
      input x[N, C]
      output Again(x)
    }
    ```

    ### Fix

    Break the circle. A fixed number of steps is written with `repeat`.

    ```norm
    norm Centred {
      input  x[N, C]
      output x - mean(x over C)
    }

    norm Twice {
      input  x[N, C]
      output Centred(2 * x)
    }
    ```
    """

    span: Span
    path: tuple[str, ...]

    def message(self) -> str:
        return f"norm `{self.path[0]}` calls itself"

    def notes(self) -> tuple[str, ...]:
        return (" calls ".join(f"`{name}`" for name in self.path),)

    def helps(self) -> tuple[str, ...]:
        return ("break the circle; a fixed number of steps is a `repeat`",)


@problem("MN0606")
@dataclass(frozen=True)
class UnboundedRepeat(Problem):
    """The number of steps of a `repeat` is not known when the module is constructed.

    ### What it means

    `repeat` takes a whole number that is written out or an integer hyperparameter. A number that
    depends on data could grow without bound.

    ### Example

    ```norm
    norm Loop {
      input  x[N, C]
      let    d[N] = 1
      repeat sum(x over N, C) { d = d / 2 }
      output x * d
    }
    ```

    ### Fix

    Declare a hyperparameter, `steps: int = 10`, and write `repeat steps { ... }`.

    ```norm
    norm Loop(steps: int = 10) {
      input  x[N, C]
      let    d[N] = 1
      repeat steps { d = d / 2 }
      output x * d
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "the number of steps is not fixed"

    def label(self) -> str:
        return "expected a whole number or an integer hyperparameter"

    def helps(self) -> tuple[str, ...]:
        return ("declare a hyperparameter `steps: int = 10` and write `repeat steps`",)


@problem("MN0608")
@dataclass(frozen=True)
class UnknownTarget(Problem):
    """A norm is for something that there is not.

    ### What it means

    A norm is for activations, unless it says `for weight` (a parametrization), `for
    gradient`, `for step` (what becomes of a weight after a step of the optimizer) or `for loss`.

    ### Example

    ```norm
    norm Odd for weights {
      input  v[O, *I]
      output v - mean(v over *I)
    }
    ```

    ### Fix

    Write `for weight`, `for gradient`, `for step` or `for loss`, or nothing.

    ```norm
    norm Even for weight {
      input  v[O, *I]
      output v - mean(v over *I)
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...] = ()

    def message(self) -> str:
        return f"a norm cannot be for `{self.name}`"

    def helps(self) -> tuple[str, ...]:
        return ("write `for weight`, `for gradient`, `for step` or `for loss`, or leave it out",)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self.candidates)


@problem("MN0609")
@dataclass(frozen=True)
class TooLarge(Problem):
    """A norm or a file that is too large.

    ### What it means

    A norm has at most 32 axes, and at most 1000 hyperparameters, inputs, parameters, buffers,
    statistics and outputs together; a file has at most 100 norms and 20000 words and signs. A
    call stands for everything that the called norm computes: norms that call norms that call
    norms grow quickly, and a norm computes at most 3000 values where it calls others. A number
    that is known when the module is made, such as an initial value, has at most 100 numbers and
    operators in it.

    ### Example

    A norm that calls another one twice, which calls another one twice, and so on, fifteen times.

    ```norm
    norm A { input x[N] output x / (1 + x^2) }
    norm B { input x[N] output A(x) + A(2 * x) }
    norm C { input x[N] output B(x) + B(2 * x) }
    norm D { input x[N] output C(x) + C(2 * x) }
    norm E { input x[N] output D(x) + D(2 * x) }
    norm F { input x[N] output E(x) + E(2 * x) }
    norm G { input x[N] output F(x) + F(2 * x) }
    norm H { input x[N] output G(x) + G(2 * x) }
    norm I { input x[N] output H(x) + H(2 * x) }
    norm J { input x[N] output I(x) + I(2 * x) }
    norm K { input x[N] output J(x) + J(2 * x) }
    norm L { input x[N] output K(x) + K(2 * x) }
    norm M { input x[N] output L(x) + L(2 * x) }
    norm N { input x[N] output M(x) + M(2 * x) }
    norm O { input x[N] output N(x) + N(2 * x) }
    norm P { input x[N] output O(x) + O(2 * x) }
    norm Q { input x[N] output P(x) + P(2 * x) }
    norm R { input x[N] output Q(x) + Q(2 * x) }
    norm S { input x[N] output R(x) + R(2 * x) }
    ```

    ### Fix

    Call a norm once, give the result a name with `let`, and use the name.

    ```norm
    norm Inner {
      input  x[N]
      output x / (1 + x^2)
    }

    norm Outer {
      input  x[N]
      let    y = Inner(x)
      output y + 2 * y
    }
    ```
    """

    span: Span
    limit: int
    what: str
    owner: str = "this norm"

    def message(self) -> str:
        does = "computes" if self.what == "values" else "has"
        return f"{self.owner} {does} more than {self.limit} {self.what}"

    def label(self) -> str:
        if self.what == "numbers and operators":
            return ""
        return "with this one" if self.what != "values" else "with this call"

    def helps(self) -> tuple[str, ...]:
        if self.what == "values":
            return ("call a norm once, and use its result by name",)
        if self.what == "axes":
            return ("`*S` stands for any number of axes",)
        if self.what == "numbers and operators":
            return ("make what it comes to a hyperparameter",)
        return ("write several that are smaller",)


@problem("MN0610")
@dataclass(frozen=True)
class NotForTarget(Problem):
    """A norm has something that does not go with what it is for.

    ### What it means

    A norm for weights becomes a parametrization, which torch calls with the weight alone, and
    whose result takes the weight's place: it has one input and one output. An optimizer calls a
    norm for gradients or for steps with each of its parameters in turn, so that it has up to two
    inputs of the same axes: the gradient and the weight, or the weight after the step and before
    it. It keeps buffers for each parameter, and learns nothing, for no loss depends on it. `init`
    gives a parameter or a buffer a first value that is computed from these inputs, so it can be
    used in norms for weights, gradients and steps only, and depends on nothing that is learned or
    decided by the mode; that of a buffer may read buffers that stand before it.

    ### Example

    ```norm
    norm Scaled for gradient {
      input  grad[O, *I]
      param  strength = 0.1
      output grad - strength * mean(grad over *I)
    }
    ```

    ### Fix

    Make it a hyperparameter, a tensor that is given in the call of an ordinary norm, or a norm
    for something else.

    ```norm
    norm Scaled(strength = 0.1) for gradient {
      input  grad[O, *I]
      output grad - strength * mean(grad over *I)
    }
    ```
    """

    span: Span
    target: str
    conflict: str
    hint: str

    def message(self) -> str:
        plural = "losses" if self.target == "loss" else f"{self.target}s"
        return f"a norm for {plural} has {self.conflict}"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)
