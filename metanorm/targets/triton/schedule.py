"""Schedule the steps of a nest: a kernel per sweep, or one kernel for all sweeps of whole islands.

Narrow values are computed right before a kernel reads them, values on the same axes together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from string import ascii_lowercase

from metanorm.ir.index import closure
from metanorm.ir.nodes import Buffer, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Update
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.kernel import sweep_summary
from metanorm.targets.triton.larger_values import kernels_of_sweep
from metanorm.targets.triton.phase_kernels import PhasePrinter, in_one_program
from metanorm.targets.triton.phases import Phase, Phases
from metanorm.targets.triton.scope import NotInTile
from metanorm.targets.triton.shapes import TileShape, island_shapes, sweep_shape
from metanorm.targets.triton.steps import Parts, PhaseStep, Step, TileStep
from metanorm.targets.triton.tile import TilePrinter


def sweep_by_sweep(context: KernelContext, name: str) -> list[Step]:
    """The steps with a kernel per sweep, which serve data of any size."""
    schedule = _Schedule(context, name)
    for number, sweep in enumerate(context.nest.sweeps, 1):
        sweep_name = f"sweep_{number}" if len(context.nest.sweeps) > 1 else "sweep"
        parts = kernels_of_sweep(context, sweep)
        for letter, part in zip(ascii_lowercase, parts):
            shape = sweep_shape(context, [context.reductions[number] for number in part.measures])
            printer = TilePrinter(context, shape, [part], (), island=False)
            schedule.provide_arrays(printer.scope.reads)
            kernel_name = f"{name}_{sweep_name}{letter if len(parts) > 1 else ''}"
            doc = f"Sweep {number}: {sweep_summary(context, part)}."
            schedule.add_tile_step(printer.step(kernel_name, doc))
    schedule.finish()
    return schedule.steps


def in_islands(context: KernelContext, name: str) -> list[Step]:
    """The steps with one kernel for all sweeps of islands that fit a tile, if there can be one."""
    if len(context.nest.sweeps) < 2 or context.nest.extra_axes:
        return []
    for shape in island_shapes(context):
        try:
            return _whole_islands(context, f"{name}_islands", shape)
        except NotInTile:
            continue
    return []


def _whole_islands(context: KernelContext, name: str, shape: TileShape) -> list[Step]:
    schedule = _Schedule(context, name)
    between = {let.name for block in context.nest.between for let in block.lets}
    island_values = {
        ref for ref in schedule.final_values() if ref in between and _is_per_island(context, ref)
    }
    read_later = island_values | schedule.statistics_of(
        ref for ref in schedule.final_values() if ref not in island_values
    )
    printer = TilePrinter(context, shape, context.nest.sweeps, read_later, island=True)
    schedule.provide_arrays(printer.scope.reads)
    cells = ", ".join(context.nest.islands)
    schedule.add_tile_step(printer.step(name, f"All sweeps, for whole islands: {cells}."))
    schedule.available |= read_later
    schedule.finish()
    return schedule.steps


def _is_per_island(context: KernelContext, ref: Ref) -> bool:
    """Whether each island has one value."""
    return set(context.lets[ref].type.axes) <= set(context.nest.islands)


class _Schedule:
    def __init__(self, context: KernelContext, name: str) -> None:
        self.ctx, self.name = context, name
        self.phases = Phases(context)
        self.steps: list[Step] = []
        self.available: set[Ref] = set()
        self.partials: dict[int, Parts] = {}
        self.phase_kernels = 0
        self.results = [r for _, r in context.program.outputs if not context.is_wide(r)]
        self.pending_updates = list(context.program.updates)
        # Buffers that a value reads, so that they must not change before the end.
        self.read_buffers = {
            let.op.name for let in context.program.body if isinstance(let.op, Buffer)
        }
        self.eager_statistics = self.statistics_of(
            self.final_values()
        )  # stored by any phase that has them

    # ---- required values

    def final_values(self) -> list[Ref]:
        """The narrow values that a call returns or writes to buffers."""
        updated = [update.value for update in self.ctx.program.updates]
        return list(dict.fromkeys([*self.results, *updated]))

    def statistics_of(self, refs: Iterable[Ref]) -> set[Ref]:
        """The statistics that values depend on, except terminal ones, which are joined last."""
        measured = self.ctx.measured
        sources = closure(
            refs, lambda ref: () if ref in measured else operands(self.ctx.lets[ref].op)
        )
        return {ref for ref in sources if ref in measured and not measured[ref][1].terminal}

    # ---- steps

    def add_tile_step(self, step: TileStep) -> None:
        """Append a kernel that reads the data. Later phases can join the parts that it stores."""
        self.steps.append(step)
        for parts in step.parts:
            self.partials[int(parts.names[0].split(" ")[1])] = parts

    def finish(self) -> None:
        """Append the phases for everything that is left after the last sweep."""
        self._add_phases(self.results, last=True)

    def provide_arrays(self, refs: Collection[Ref]) -> None:
        """Append phases that store the narrow values that the next kernel reads. Since that takes a
        launch, the same phases also compute all results that are ready."""
        if any(ref not in self.available and not self.ctx.is_external(ref) for ref in refs):
            ready_results = [ref for ref in self.results if self.phases.ready(ref, self.partials)]
            self._add_phases([*refs, *ready_results], last=False)

    def _add_phases(self, refs: Collection[Ref], last: bool) -> None:
        early = {u.value for u in self.pending_updates if u.buffer not in self.read_buffers}
        early = {ref for ref in early if self.phases.ready(ref, self.partials)}
        late = {u.value for u in self.pending_updates if last} - early
        phases = self.phases.schedule(
            {*refs, *late}, early, self.available, self.partials, self.eager_statistics
        )
        due: list[tuple[Phase, list[Update]]] = []
        for phase in phases:
            phase_updates = [
                u for u in self.pending_updates if u.value in phase.members and u.value in early
            ]
            due.append((phase, phase_updates))
            self.pending_updates = [u for u in self.pending_updates if u not in phase_updates]
        if last:  # all at once, so that reads of a buffer see its value before the call
            due += [
                (Phase(tuple(u.value for u in phase_updates), frozenset()), phase_updates)
                for phase_updates in self._deferred_updates()
            ]
        if not due:
            return
        self.phase_kernels += 1
        name = f"{self.name}_finalize_{self.phase_kernels}"
        steps: list[PhaseStep] = []
        for number, (phase, updates) in enumerate(due, 1):
            printer = PhasePrinter(self.ctx, phase, self.partials, self.available, updates)
            own_name = f"{name}_{self._axes_suffix(phase, number)}" if len(due) > 1 else name
            steps.append(printer.step(own_name, self._phase_doc(phase)))
            self.available |= phase.stored
        doc = "Narrow values, phase by phase in one program."
        self.steps.append(in_one_program(name, doc, steps))

    def _deferred_updates(self) -> list[list[Update]]:
        """The updates that had to wait for the end, grouped by the axes of their buffers."""
        updates_by_axes: dict[tuple[str, ...], list[Update]] = {}
        for update in self.pending_updates:
            updates_by_axes.setdefault(self.ctx.axis_order(update.value), []).append(update)
        return list(updates_by_axes.values())

    def _axes_suffix(self, phase: Phase, number: int) -> str:
        axes = self.ctx.phase_axes(phase.members[0])
        per = re.sub(r"\W+", "_", "_".join(axes).lower())
        return f"{number}_per_{per}" if axes else f"{number}_of_all"

    def _phase_doc(self, phase: Phase) -> str:
        names = ", ".join(r for r in phase.members if not r.startswith("%"))
        first = phase.members[0]
        kind = "Values" if self.ctx.is_wide(first) else "Narrow values"
        doc = f"{kind} per {', '.join(self.ctx.phase_axes(first)) or 'all'}"
        return f"{doc}: {names}." if names else f"{doc}."
