"""The equations of a norm without optimisation, as people would write them by hand.

The module is printed before the passes that make it fast, and uses the statistics of torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import torch
from torch import Tensor

from metanorm import runtime
from metanorm.frontend import CheckedNorm
from metanorm.ir.initializers import initializers
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.stages import program_at
from metanorm.targets.live import module_from_files
from metanorm.targets.package import module_files
from metanorm.targets.torch.module_from_ir import CompiledNorm


def module_of_equations(norm: CheckedNorm) -> ModuleType:
    """A module with the class of this norm, without optimisation."""
    unoptimised = program_at(
        norm.program, "unbiased"
    )  # the last pass before those that make it fast
    initial_values = {name: optimize(p) for name, p in initializers(norm.program).items()}
    compiled = CompiledNorm(norm.equations, norm.program, unoptimised, initial_values)
    files = module_files("equations", "equations", [compiled], "", Options(target="torch"))
    module = module_from_files(files, "equations")
    module.__dict__["runtime"] = _ByHand("runtime")
    return module


class _ByHand(ModuleType):
    """The runtime, with plain `mean` and `var` of torch as statistics."""

    def __getattr__(self, name: str) -> object:
        return getattr(runtime, name)

    @staticmethod
    def widened(x: Tensor) -> Tensor:
        return x

    @staticmethod
    def moments(
        x: Tensor,
        dim: Iterable[int],
        keepdim: bool = False,
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> runtime.Moments:
        dims = tuple(dim)
        if where is not None or weight is not None or not dims:
            return runtime.moments(x, dims, keepdim, where, weight)
        return runtime.Moments(x.mean(dims, keepdim), torch.var(x, dims, False, keepdim))

    @staticmethod
    def mean_square(
        x: Tensor,
        dim: Iterable[int],
        keepdim: bool = False,
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        return runtime.mean(x.square(), tuple(dim), keepdim, where, weight)
