"""The steps of one direction of a norm: sweep by sweep, or islands that fit a tile in one kernel.

Narrow values are computed when a kernel is about to read them, those on the same axes together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from metanorm.ir.index import closure
from metanorm.ir.nodes import Buffer, Ref, Update
from metanorm.ir.operands import operands
from metanorm.nest.nest import Block
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.kernel import what
from metanorm.targets.triton.phases import Phase, Phases
from metanorm.targets.triton.scope import NotInTile
from metanorm.targets.triton.settle import SettlePrinter, in_one_program
from metanorm.targets.triton.shapes import Shape, of_islands, of_sweep
from metanorm.targets.triton.steps import Parts, PhaseStep, Step, TileStep
from metanorm.targets.triton.tile import TilePrinter


def sweep_by_sweep(context: KernelContext, name: str) -> list[Step]:
    """Steps that serve any data."""
    made = _Schedule(context, name)
    for number, sweep in enumerate(context.nest.sweeps, 1):
        shape = of_sweep(context, [context.numbered[number] for number in sweep.measures])
        printer = TilePrinter(context, shape, [sweep], (), island=False)
        made.provide(printer.s.reads)
        own = "_".join([f"sweep_{number}"] if len(context.nest.sweeps) > 1 else ["sweep"])
        made.look(
            printer.step(f"{name}_{own}", f"Sweep {number}: {what(context, sweep)}."), [sweep]
        )
    made.finish()
    return made.steps


def in_islands(context: KernelContext, name: str, walk: bool) -> list[Step] | None:
    """Steps for islands that are no larger than a tile, or for those that a program walks over;
    `None` where that cannot be."""
    if len(context.nest.sweeps) < 2:
        return None
    for shape in of_islands(context, walk):
        try:
            return _whole_islands(context, f"{name}_{'walked' if walk else 'islands'}", shape)
        except NotInTile:
            continue
    return None


def _whole_islands(context: KernelContext, name: str, shape: Shape) -> list[Step]:
    made = _Schedule(context, name)
    between = {let.name for block in context.nest.between for let in block.lets}
    here = {ref for ref in made.final() if ref in between and _of_islands(context, ref)}
    later = here | made.measured_for(ref for ref in made.final() if ref not in here)
    printer = TilePrinter(context, shape, context.nest.sweeps, later, island=True)
    made.provide(printer.s.reads)
    cells = ", ".join(context.nest.islands)
    made.look(printer.step(name, f"All sweeps, for whole islands: {cells}."), context.nest.sweeps)
    made.available |= later
    made.finish()
    return made.steps


def _of_islands(context: KernelContext, ref: Ref) -> bool:
    """Whether each island has one value."""
    return set(context.lets[ref].type.axes) <= set(context.nest.islands)


class _Schedule:
    def __init__(self, context: KernelContext, name: str) -> None:
        self.f, self.name = context, name
        self.phases = Phases(context)
        self.steps: list[Step] = []
        self.available: set[Ref] = set()
        self.partial: dict[int, Parts] = {}
        self.settled = 0
        self.results = [r for _, r in context.program.outputs if not context.wide(r)]
        self.owed = list(context.program.updates)
        # Buffers that something reads, so that they have to stay as they are to the end.
        self.read = {let.op.name for let in context.program.body if isinstance(let.op, Buffer)}
        self.better = self.measured_for(self.final())  # stored when they are at hand

    # ---- what is needed

    def final(self) -> list[Ref]:
        """The narrow values that a call gives back or keeps."""
        updated = [update.value for update in self.f.program.updates]
        return list(dict.fromkeys([*self.results, *updated]))

    def measured_for(self, refs: Iterable[Ref]) -> set[Ref]:
        """The statistics that values come from, but for those whose parts are joined later."""
        measured = self.f.measured
        found = closure(refs, lambda ref: () if ref in measured else operands(self.f.lets[ref].op))
        return {ref for ref in found if ref in measured and not measured[ref][1].terminal}

    # ---- steps

    def look(self, step: TileStep, sweeps: Sequence[Block]) -> None:
        """A kernel that looks at the data; the parts of what it measures can be joined now."""
        self.steps.append(step)
        for parts in step.parts:
            self.partial[int(parts.names[0].split(" ")[1])] = parts

    def finish(self) -> None:
        """What is left to compute when all data has been looked at."""
        self._settle(self.results, last=True)

    def provide(self, refs: Collection[Ref]) -> None:
        """Make arrays of narrow values that the next kernel reads; and since that is a launch,
        finish what can be."""
        if any(ref not in self.available and not self.f.given(ref) for ref in refs):
            done = [ref for ref in self.results if self.phases.ready(ref, self.partial)]
            self._settle([*refs, *done], last=False)

    def _settle(self, refs: Collection[Ref], last: bool) -> None:
        early = {u.value for u in self.owed if u.buffer not in self.read}
        early = {ref for ref in early if self.phases.ready(ref, self.partial)}
        late = {u.value for u in self.owed if last} - early
        found = self.phases.of({*refs, *late}, early, self.available, self.partial, self.better)
        due: list[tuple[Phase, list[Update]]] = []
        for phase in found:
            own = [u for u in self.owed if u.value in phase.members and u.value in early]
            due.append((phase, own))
            self.owed = [u for u in self.owed if u not in own]
        if last:  # together, so that what is read of a buffer is what it was before the call
            due += [(Phase(tuple(u.value for u in own), frozenset()), own) for own in self._late()]
        if not due:
            return
        self.settled += 1
        name = f"{self.name}_settle_{self.settled}"
        steps: list[PhaseStep] = []
        for number, (phase, updates) in enumerate(due, 1):
            printer = SettlePrinter(self.f, phase, self.partial, self.available, updates)
            own_name = f"{name}_{self._per(phase, number)}" if len(due) > 1 else name
            steps.append(printer.step(own_name, self._said(phase)))
            self.available |= phase.stored
        doc = "Narrow values, phase by phase in one program."
        self.steps.append(in_one_program(name, doc, steps))

    def _late(self) -> list[list[Update]]:
        """The updates that were left to the end, by the axes of their buffers."""
        found: dict[tuple[str, ...], list[Update]] = {}
        for update in self.owed:
            found.setdefault(self.f.order(update.value), []).append(update)
        return list(found.values())

    def _per(self, phase: Phase, number: int) -> str:
        axes = self.f.lets[phase.members[0]].type.axes
        per = re.sub(r"\W+", "_", "_".join(axes).lower())
        return f"{number}_per_{per}" if axes else f"{number}_of_all"

    def _said(self, phase: Phase) -> str:
        names = ", ".join(r for r in phase.members if not r.startswith("%"))
        doc = f"Narrow values per {', '.join(self.f.lets[phase.members[0]].type.axes) or 'all'}"
        return f"{doc}: {names}." if names else f"{doc}."
