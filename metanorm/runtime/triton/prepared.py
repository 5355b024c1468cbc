"""Prepared calls: launches that are compiled once, and then only take the addresses of tensors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metanorm.runtime.kernels.binding import ResultSlot
from metanorm.runtime.kernels.errors import CannotBuild, Unsupported, warn_once
from metanorm.runtime.tensors import is_capturing
from metanorm.runtime.triton import direct, driver
from metanorm.runtime.triton.groups import SortedEdges, SortedRows
from metanorm.runtime.triton.interpreter import is_interpreting
from metanorm.runtime.triton.launches import (
    ArenaSlice,
    ArgumentBlock,
    CallInputs,
    Launch,
    arena_numel,
    arena_slices,
)

Tensors = dict[str, "Tensor | None"]
# What kernels are compiled for: the positions of misaligned tensors, and whether rows are sorted.
Specialization = tuple[tuple[int, ...], bool]

COLD = "kernels that never ran, and a CUDA graph is captured"

_captured: dict[int, LaunchSequence] = {}  # CUDA graphs may read their constants from now on


@dataclass
class PreparedLaunches:
    """The launches of a call for one layout, before they are compiled.

    `arrays` has the shapes of narrow values of this call alone, and `saved` those of narrow values
    that the forward call saves for the backward one.
    """

    device: torch.device
    real: torch.dtype
    operands: list[tuple[str, int]]  # the key of each tensor, and its number in the call
    constants: Tensors
    momenta: list[str]
    index: tuple[str, int, int] | None  # its name, the number of groups, and that of rows
    edge_lists: list[SortedEdges] = field(default_factory=list)
    results: list[ResultSlot] = field(default_factory=list)
    result_keys: list[str] = field(default_factory=list)
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)
    saved: dict[str, tuple[int, ...]] = field(default_factory=dict)
    steps: list[Launch] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)  # source and target, after launches
    written: list[int] = field(default_factory=list)  # operands that kernels may change
    launches: LaunchSequence | None = None
    unsupported: str = ""  # why this layout has no kernels

    @functools.cached_property
    def saved_numel(self) -> int:
        """How many elements are saved for the backward pass."""
        return arena_numel(self.saved)

    def run(
        self, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        """Run all launches of a call.

        Raises `Unsupported` if its kernels cannot be compiled, or not now: a compilation or a copy
        would break the capture of a CUDA graph.
        """
        if self.unsupported:
            raise Unsupported(self.unsupported)
        try:
            if self.launches is None:
                if is_capturing(self.device):
                    raise Unsupported(COLD)
                self.launches = LaunchSequence(self, operands)
            self.launches.run(operands, momenta, results, saved)
        except CannotBuild as problem:
            self.unsupported = f"kernels that cannot be had here: {problem.reason}"
            warn_once(problem)
            raise Unsupported(self.unsupported) from problem


class LaunchSequence:
    """The launches of a layout, in order, with a place for what differs from call to call.

    The first call compiles all kernels before it launches any. Some kernels update running
    statistics: if a later one could not be compiled, torch would update them again.
    """

    def __init__(self, prepared: PreparedLaunches, operands: Sequence[Tensor | None]) -> None:
        self.prepared = prepared
        n_results = len(prepared.results)
        numbers = dict(zip(prepared.result_keys, range(n_results)))
        numbers.update((key, n_results + number) for key, number in prepared.operands)
        constants = dict(prepared.constants)
        self.sorted: list[SortedRows | SortedEdges] = []
        if prepared.index is not None:
            name, n_groups, n_rows = prepared.index
            operand = dict(prepared.operands).get(f"tensor {name}")
            if operand is None:
                one_group = torch.tensor([0, n_rows], device="cpu")
                constants.update(starts=one_group, order=None, index=None)
            else:
                self.sorted.append(SortedRows(operand, n_groups))
                numbers["index"] = n_results + operand
        used_keys = {key for step in prepared.steps for _, key in step.keys}
        self.sorted += [edges for edges in prepared.edge_lists if used_keys & {*edges.keys}]
        sorted_keys = [key for tensor in self.sorted for key in tensor.keys]
        numbers.update(zip(sorted_keys, itertools.count(n_results + len(operands))))
        self.order_number = numbers.get("order")
        # A copy from the CPU has ended when it returns, so that any stream may read it.
        on_device = {k: c if c is None else c.to(prepared.device) for k, c in constants.items()}
        self.has_constants = any(c is not None for c in on_device.values())
        arrays: dict[str, tuple[int, ArenaSlice]] = {}
        for arena, shapes in enumerate((prepared.arrays, prepared.saved)):
            arrays.update((key, (arena, slice_)) for key, slice_ in arena_slices(shapes).items())
        wanted = numbers.keys() | arrays.keys()
        self.steps = [s for s in prepared.steps if not s.writes or wanted.intersection(s.writes)]
        self.arguments = ArgumentBlock(
            self.steps, on_device, prepared.momenta, arrays, numbers, prepared.real.itemsize
        )
        self.arena_numel = arena_numel(prepared.arrays)
        self.copies = [(source, target) for source, target in prepared.copies if target in wanted]
        self.compiled: dict[Specialization, list[direct.DirectLaunch] | None] = {}
        self.is_interpreted = is_interpreting()

    def run(
        self, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        """Run one call. Raises `CannotBuild` and `Unsupported` before anything has happened."""
        prepared = self.prepared
        tensors: tuple[Tensor | None, ...] = (*results, *operands)
        for sorted_operand in self.sorted:
            tensors += sorted_operand.tensors(operands)
        arena = None
        if self.arena_numel:
            arena = torch.empty(self.arena_numel, dtype=prepared.real, device=prepared.device)
        inputs = CallInputs(tensors, momenta, (arena, saved))
        if self.is_interpreted:
            self._dispatch(inputs)
        else:
            self._launch(inputs)
        for source, target in self.copies:
            value, result = (self.arguments.tensor(key, inputs) for key in (source, target))
            if value is not None and result is not None:
                result.copy_(value.view(result.shape))

    def _launch(self, inputs: CallInputs) -> None:
        """Launch the kernels past Triton's dispatcher, where that is possible."""
        arguments, misaligned = self.arguments.addresses(inputs)
        order = self.order_number
        rows_are_sorted = order is not None and inputs.tensors[order] is None
        specialization = (misaligned, rows_are_sorted)
        if specialization not in self.compiled:
            if is_capturing(self.prepared.device):
                raise Unsupported(COLD)
            self.compiled[specialization] = self._compile(inputs)
        if self.has_constants and is_capturing(self.prepared.device):
            _captured[id(self)] = self
        launches = self.compiled[specialization]
        if launches is None or direct.has_hooks():
            return self._dispatch(inputs)
        direct.run(launches, arguments, driver.stream(self.prepared.device))

    def _compile(self, inputs: CallInputs) -> list[direct.DirectLaunch] | None:
        """Compile every kernel; `None` if only the dispatcher can launch them."""
        driver.demand_capable({t.dtype for t in inputs.tensors if t is not None})
        arguments = self.arguments.values(inputs)
        picks, programs = self.arguments.picks, [step.programs for step in self.steps]
        kernels = [
            driver.compile_kernel(step.kernel, step.programs, step.warps, pick(arguments))
            for step, pick in zip(self.steps, picks)
        ]
        return direct.direct_launches(kernels, programs, picks)

    def _dispatch(self, inputs: CallInputs) -> None:
        """Launch the kernels by Triton's documented interface."""
        arguments = self.arguments.values(inputs)
        for step, pick in zip(self.steps, self.arguments.picks):
            step.kernel[(step.programs,)](*pick(arguments), num_warps=step.warps, **driver.OPTIONS)
