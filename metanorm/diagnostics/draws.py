"""MN0509, MN0511: random numbers."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.registry import problem
from metanorm.source import Span


@problem("MN0509")
@dataclass(frozen=True)
class MisplacedDraw(Problem):
    """Random numbers where there can be none.

    ### What it means

    `normal(mean, std)` and `uniform(low, high)` are initial values of parameters and buffers, as
    those of torch's layers are. They are the whole initial value, and their arguments are numbers
    known when the module is constructed.

    Calls in training draw them too, and `bernoulli(p)`; there it is said which positions get a
    number each: `normal(0, 1 per N, C)`. So do norms for weights in what `init` computes. Other
    computations of weights, gradients and steps draw nothing, nor do loops and first batches.

    ### Example

    ```norm
    norm Noisy {
      input  x[N, C]
      reduce C
      output mode(train: normalized + normal(0, 0.1), eval: normalized)
    }
    ```

    ### Fix

    Say for which positions, or begin a parameter with random numbers.

    ```norm
    norm Noisy {
      input  x[N, C]
      param  strength[C] = normal(0, 0.1)
      reduce C
      output mode(train: normalized + strength * normal(0, 1 per N, C), eval: normalized)
    }
    ```
    """

    span: Span
    function: str
    hint: str

    def message(self) -> str:
        return f"`{self.function}` draws random numbers, which cannot be drawn here"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,)


@problem("MN0511")
@dataclass(frozen=True)
class DrawInEvaluation(Problem):
    """Random numbers that evaluation would need.

    ### What it means

    Calls draw random numbers in training alone. A spec says what evaluation computes instead: the
    value behind `eval:` of a `mode`. A running statistic of what is drawn needs a `mode` as well,
    since a module without running statistics evaluates with those of the batch.

    ### Example

    ```norm
    norm Dropped(p = 0.1) {
      input  x[N, C]
      output where(bernoulli(1 - p per N, C), x / (1 - p), 0)
    }
    ```

    ### Fix

    Say what evaluation takes.

    ```norm
    norm Dropped(p = 0.1) {
      input  x[N, C]
      output mode(train: where(bernoulli(1 - p per N, C), x / (1 - p), 0), eval: x)
    }
    ```
    """

    span: Span
    function: str

    def message(self) -> str:
        return f"evaluation would read what `{self.function}` draws, which only training does"

    def helps(self) -> tuple[str, ...]:
        return ("say what evaluation takes instead: `mode(train: ..., eval: ...)`",)
