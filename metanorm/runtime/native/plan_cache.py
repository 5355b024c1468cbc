"""Call plans for kernels in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from metanorm.runtime.kernels.call_plan import CallPlan, Operands
from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.kernels.table import headers_match, kernel_source, parse_tables
from metanorm.runtime.native.binding import NativeBinding
from metanorm.runtime.native.calls import KernelLibrary, PreparedKernel, kernel_name, run, runs


class NativePlan(CallPlan):
    """A plan with one kernel in each direction."""

    binding_class = NativeBinding

    def allocate_saved(self) -> Tensor | None:
        """Memory for what the backward kernel reads; `None` if it reads nothing."""
        prepared: PreparedKernel = self.prepared  # type: ignore[assignment]
        if not prepared.saved_offset:
            return None
        # Hooks may round saved tensors: the dtype is that of the numbers, with zeros between them.
        return torch.zeros(prepared.saved_numel, dtype=prepared.real, device="cpu")

    def launch(
        self, prepared: PreparedKernel, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        """Call a kernel, under its name in profiles."""
        backward = prepared is not self.prepared
        name = kernel_name(self.function.__name__, backward=backward)
        runs[backward] += 1
        with record_function(name) if torch._C._autograd._profiler_enabled() else nullcontext():
            run(prepared, operands, momenta, results, saved)


class NativePlanCache(PlanCache):
    """The plans of one norm for kernels in C. Raises `CannotBuild` if it has none."""

    plan_class = NativePlan

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], module_file: str
    ) -> None:
        source = kernel_source(module_file)
        module = function.__globals__.get("__name__", "")
        try:
            table = parse_tables(source).get(function.__name__)
        except (ValueError, KeyError, TypeError):  # the file was cut off, or edited
            table = None
        if table is None:
            raise CannotBuild(
                f"the C file of module {module} is not beside it, or not whole",
                "copy it there, or list *.c files as package data",
            )
        if not headers_match(module_file, source):
            raise CannotBuild(
                f"module {module} and the C file beside it were not compiled together",
                "compile the spec again, and copy both files",
            )
        super().__init__(function, names, KernelLibrary(source), table)
