"""The ways of calls on Triton kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.native.calls import Place
from metanorm.runtime.native.layout import Unfit
from metanorm.runtime.native.routes import Gradients, Operands, Outputs, Route, Routes
from metanorm.runtime.native.table import parsed
from metanorm.runtime.triton.calls import Preparation, Prepared
from metanorm.runtime.triton.kernels import kernels_beside, table_of


@dataclass
class Kernels:
    """The kernels of one function, and their steps by section."""

    module: ModuleType
    function: str
    steps: dict[str, Any]


class TritonRoute(Route):
    """The way of calls that look alike, on Triton kernels."""

    def forward(
        self, operands: Operands, momenta: Sequence[float], keep: bool
    ) -> tuple[Outputs, Tensor | None]:
        """The outputs, and what the backward kernels need."""
        prepared: Prepared = self.prepared  # type: ignore[assignment]
        kept = None
        if prepared.saved:
            kept = torch.empty(prepared.kept, dtype=prepared.real, device=prepared.device)
        results = [_allocated(place, prepared.device) for place in prepared.results]
        prepared.run(operands, momenta, results, kept)
        return tuple(results), kept if keep else None

    def back(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool],
        kept: Tensor | None,
    ) -> Gradients:  # fmt: skip
        """The gradients of the operands that need one."""
        prepared: Prepared = self.ready_for(operands, gradients, needed)  # type: ignore[assignment]
        results = [_allocated(place, prepared.device) for place in prepared.results]
        prepared.run((*operands, *self.fitting), (), results, kept)
        found: Gradients = [None] * len(operands)
        for place, result in zip(prepared.results, results):
            found[place.operand] = result
        return found


def _allocated(place: Place, device: torch.device) -> Tensor:
    return torch.empty_strided(place.shape, place.strides, dtype=place.dtype, device=device)
