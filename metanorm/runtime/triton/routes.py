"""The ways of calls on Triton kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.route import Operands, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.kernels.table import parsed
from metanorm.runtime.triton import driver, groups
from metanorm.runtime.triton.calls import Preparation
from metanorm.runtime.triton.interpreter import interpreting
from metanorm.runtime.triton.kernels import kernels_beside, table_of
from metanorm.runtime.triton.prepared import Prepared


@dataclass
class Kernels:
    """The kernels of one function, and their steps by section."""

    module: ModuleType
    function: str
    steps: dict[str, Any]


class TritonRoute(Route):
    """The way of calls that look alike, on Triton kernels."""

    reading = Preparation

    def memory(self) -> Tensor | None:
        """Room for what the backward kernels need."""
        prepared: Prepared = self.prepared  # type: ignore[assignment]
        if not prepared.saved:
            return None
        return torch.empty(prepared.kept, dtype=prepared.real, device=prepared.device)

    def launch(
        self, prepared: Prepared, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> None:  # fmt: skip
        """All kernels of a call."""
        if prepared.device.type == "cuda" and prepared.device.index != torch.cuda.current_device():
            with torch.cuda.device(prepared.device):
                prepared.run(operands, momenta, results, kept)
        else:
            prepared.run(operands, momenta, results, kept)


class TritonRoutes(Routes):
    """The ways of one norm on Triton kernels. Raises `CannotBuild` where there are none."""

    kind = TritonRoute

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], module_file: str
    ) -> None:
        module = kernels_beside(module_file)
        data = table_of(module, function.__name__)
        if not interpreting():
            driver.demand_driver()
        library = Kernels(module, function.__name__, data["steps"])
        super().__init__(function, names, library, parsed(data), device_type())

    def extent(self, index: Tensor) -> tuple[int, int]:
        """The smallest and the largest label, which a GPU is waited for once."""
        return groups.extent(index)


def device_type() -> str:
    """Where the tensors of kernels are: in a GPU, or where its interpreter reaches them."""
    return "cpu" if interpreting() else "cuda"
