"""The ways of calls on kernels in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from metanorm.runtime.kernels.refusals import CannotBuild
from metanorm.runtime.kernels.route import Operands, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.kernels.table import belong_together, source_of, tables
from metanorm.runtime.native.calls import Library, Preparation, Prepared, kernel_name, run, runs


class NativeRoute(Route):
    """The way of calls that look alike, on one kernel in each direction."""

    reading = Preparation

    def memory(self) -> Tensor | None:
        """Room for what the backward kernel needs."""
        prepared: Prepared = self.prepared  # type: ignore[assignment]
        if not prepared.kept_at:
            return None
        # Of the type of the numbers in it, and zero between them, for hooks that compress what is
        # saved.
        return torch.zeros(prepared.kept, dtype=prepared.real, device="cpu")

    def launch(
        self, prepared: Prepared, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> None:  # fmt: skip
        """One call of a kernel, which a profiler sees by its name."""
        backward = prepared is not self.prepared
        name = kernel_name(self.function.__name__, backward=backward)
        runs[backward] += 1
        with record_function(name) if torch._C._autograd._profiler_enabled() else nullcontext():
            run(prepared, operands, momenta, results, kept)


class NativeRoutes(Routes):
    """The ways of one norm on kernels in C. Raises `CannotBuild` where there are none."""

    kind = NativeRoute

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], module_file: str
    ) -> None:
        source = source_of(module_file)
        module = function.__globals__.get("__name__", "")
        try:
            table = tables(source).get(function.__name__)
        except (ValueError, KeyError, TypeError):  # it was cut off, or edited
            table = None
        if table is None:
            raise CannotBuild(
                f"the C file of module {module} is not beside it, or not whole",
                "copy it there, or list *.c files as package data",
            )
        if not belong_together(module_file, source):
            raise CannotBuild(
                f"module {module} and the C file beside it were not compiled together",
                "compile the spec again, and copy both files",
            )
        super().__init__(function, names, Library(source), table)
