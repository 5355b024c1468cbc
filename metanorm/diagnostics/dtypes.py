"""MN0510: dtypes."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import nearest_name_fix
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, listing
from metanorm.source import Span


@problem("MN0510")
@dataclass(frozen=True)
class UnknownDtype(Problem):
    """A dtype that does not exist.

    ### What it means

    Behind `as` stands a dtype of torch, by its name. That of an input or a parameter, which a
    call decides, is written `like x`.

    ### Example

    ```norm
    norm Sum {
      input  x[*B, D], stream[*B, D]
      reduce D
      output normalized, h = x + stream as f32
    }
    ```

    ### Fix

    Name one of them, or say which tensor has it.

    ```norm
    norm Sum {
      input  x[*B, D], stream[*B, D]
      reduce D
      output normalized, h = x + stream as float32
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    is_tensor: bool = False

    def message(self) -> str:
        return f"`{self.name}` is no dtype"

    def helps(self) -> tuple[str, ...]:
        if self.is_tensor:
            return (f"the dtype of a tensor is written `like {self.name}`",)
        guess = did_you_mean(self.name, self.candidates)
        return guess or (f"dtypes are {listing(self.candidates, 'or')}",)

    def fixes(self) -> tuple[Fix, ...]:
        return () if self.is_tensor else nearest_name_fix(self.span, self.name, self.candidates)
