"""Call plans for kernels in Triton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.call_plan import CallPlan, Operands
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.kernels.table import table_from_data
from metanorm.runtime.triton import driver, groups
from metanorm.runtime.triton.binding import TritonBinding
from metanorm.runtime.triton.interpreter import is_interpreting
from metanorm.runtime.triton.kernels import kernels_beside, table_of
from metanorm.runtime.triton.prepared import PreparedLaunches


@dataclass
class KernelModule:
    """The module with the kernels of a function, and its launches by section."""

    module: ModuleType
    function: str
    steps: dict[str, Any]


class TritonPlan(CallPlan):
    """A plan with a sequence of launches in each direction."""

    binding_class = TritonBinding

    def allocate_saved(self) -> Tensor | None:
        """Memory for what the backward kernels read; `None` if they read nothing."""
        prepared: PreparedLaunches = self.prepared  # type: ignore[assignment]
        if not prepared.saved:
            return None
        return torch.empty(prepared.saved_numel, dtype=prepared.real, device=prepared.device)

    def launch(
        self, prepared: PreparedLaunches, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        """Launch all kernels of a call, on the device of its tensors."""
        if prepared.device.type == "cuda" and prepared.device.index != torch.cuda.current_device():
            with torch.cuda.device(prepared.device):
                prepared.run(operands, momenta, results, saved)
        else:
            prepared.run(operands, momenta, results, saved)


class TritonPlanCache(PlanCache):
    """The plans of one norm for kernels in Triton. Raises `CannotBuild` if it has none."""

    plan_class = TritonPlan

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], module_file: str
    ) -> None:
        module = kernels_beside(module_file)
        data = table_of(module, function.__name__)
        if not is_interpreting():
            driver.demand_driver()
        library = KernelModule(module, function.__name__, data["steps"])
        super().__init__(function, names, library, table_from_data(data), device_type())

    def label_range(self, index: Tensor) -> tuple[int, int]:
        """The smallest and the largest label, for which the GPU synchronizes once."""
        return groups.label_range(index)


def device_type() -> str:
    """The type of the device of kernels: the CPU if they are interpreted."""
    return "cpu" if is_interpreting() else "cuda"
