"""The steps of one direction of a norm: sweep by sweep, or islands that fit a tile in one kernel.

Narrow values are computed when a kernel is about to read them, those on the same axes together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import (
    Along,
    Count,
    Expand,
    Let,
    Lookup,
    Map,
    Number,
    Pool,
    Position,
    Ref,
    Rename,
    Stop,
)
from metanorm.ir.operands import operands
from metanorm.plan.sweeps import NotPlannable, Sweep
from metanorm.targets.triton.frame import Frame
from metanorm.targets.triton.kernel import what
from metanorm.targets.triton.settle import SettlePrinter
from metanorm.targets.triton.shapes import Shape, of_islands, of_sweep
from metanorm.targets.triton.steps import Keys, Operand, Parts, Step, TileStep, TorchStep
from metanorm.targets.triton.tile import TilePrinter

SIMPLE = (Map, Stop, Expand, Rename, Lookup, Count, Position, Number)
TWINS = {"mean": "var", "var": "mean"}


def sweep_by_sweep(frame: Frame, name: str) -> list[Step]:
    """Steps that serve any data. Raises `NotPlannable`."""
    made = _Schedule(frame, name)
    for number, sweep in enumerate(frame.plan.sweeps, 1):
        shape = of_sweep(frame, sweep.reductions)
        printer = TilePrinter(frame, shape, [sweep], (), island=False)
        made.provide(printer.s.reads)
        own = "_".join([f"sweep_{number}"] if len(frame.plan.sweeps) > 1 else ["sweep"])
        made.look(printer.step(f"{name}_{own}", f"Sweep {number}: {what(frame, sweep)}."), [sweep])
    made.finish()
    return made.steps


def in_islands(frame: Frame, name: str, walk: bool) -> list[Step] | None:
    """Steps for islands that are no larger than a tile, or for those that a program walks over;
    `None` where that cannot be."""
    if len(frame.plan.sweeps) < 2:
        return None
    for shape in of_islands(frame, walk):
        try:
            return _whole_islands(frame, f"{name}_{'walked' if walk else 'islands'}", shape)
        except NotPlannable:
            continue
    return None


def _whole_islands(frame: Frame, name: str, shape: Shape) -> list[Step]:
    made = _Schedule(frame, name)
    later = made.measured_for(made.final())
    printer = TilePrinter(frame, shape, frame.plan.sweeps, later, island=True)
    made.provide(printer.s.reads)
    cells = ", ".join(frame.plan.islands)
    made.look(printer.step(name, f"All sweeps, for whole islands: {cells}."), frame.plan.sweeps)
    made.available |= later
    made.finish()
    return made.steps


class _Schedule:
    def __init__(self, frame: Frame, name: str) -> None:
        self.f, self.name = frame, name
        self.steps: list[Step] = []
        self.available: set[Ref] = set()
        self.partial: dict[int, Parts] = {}
        self.settled = 0
        last = self.final()
        self.last = {*last, *self.measured_for(last)}  # better stored when they are at hand

    # ---- what is needed

    def final(self) -> list[Ref]:
        """The narrow values that a call gives back or keeps."""
        given = [ref for _, ref in self.f.program.outputs if not self.f.wide(ref)]
        updated = [update.value for update in self.f.program.updates]
        return list(dict.fromkeys([*given, *updated]))

    def measured_for(self, refs: Iterable[Ref]) -> set[Ref]:
        """The statistics that values come from, but for those whose parts are joined later."""
        found, queue, seen = set[Ref](), list(refs), set[Ref]()
        while queue:
            ref = queue.pop()
            if ref in seen:
                continue
            seen.add(ref)
            if ref not in self.f.measured:
                queue += operands(self.f.lets[ref].op)
            elif not self.f.measured[ref][1].terminal:
                found.add(ref)
        return found

    def _missing(self, refs: Iterable[Ref]) -> set[Ref]:
        """What has to be computed for some values, themselves included."""
        found, queue = set[Ref](), list(refs)
        while queue:
            ref = queue.pop()
            if ref in self.available or ref in found or self.f.given(ref):
                continue
            found.add(ref)
            if ref in self.f.measured:
                found |= {other for _, other in self.f.measured[ref][1].results}
                continue
            op = self.f.lets[ref].op
            moved = not isinstance(op, (Map, Stop, Expand))
            queue += [r for r in operands(op) if moved or not self.f.inline(r)]
        return found

    # ---- steps

    def look(self, step: TileStep, sweeps: Sequence[Sweep]) -> None:
        """A kernel that looks at the data; the parts of what it measures can be joined now."""
        self.steps.append(step)
        for parts in step.parts:
            self.partial[int(parts.names[0].split(" ")[1])] = parts

    def finish(self) -> None:
        """What is left to compute when all data has been looked at."""
        updates = self.f.program.updates
        self.provide(self.final(), {update.value for update in updates})

    def provide(self, refs: Iterable[Ref], updated: Iterable[Ref] = ()) -> None:
        """Make arrays of some values, and update buffers from others."""
        wanted, updated = set(refs), set(updated)
        missing = self._missing(wanted) | updated
        left = [let.name for let in self.f.program.body if let.name in missing]
        readers = list(left)
        while left:
            cluster = self._cluster(left)
            left = [r for r in left if r not in cluster]
            first = self.f.lets[cluster[0]]
            if not self._simple(first.name):
                self.steps.append(self._torch(cluster))
                self.available |= set(cluster)
                followed = [r for r in cluster if r in updated]
                if followed:
                    self._settle(followed, (), updated)
                continue
            outside = {
                o
                for r in readers
                if r not in self.f.measured and (r not in cluster or not self._together(r))
                for o in operands(self.f.lets[r].op)
            }
            stored = {r for r in cluster if r in wanted or r in outside or r in self.last}
            stored = {r for r in stored if r not in self.available and not self.f.given(r)}
            self._settle(cluster, stored, updated)

    def _settle(
        self, cluster: Sequence[Ref], stored: Collection[Ref], updated: Collection[Ref]
    ) -> None:
        """A kernel for values on the same axes, of which some are stored."""
        updates = [u for u in self.f.program.updates if u.value in updated]
        printer = SettlePrinter(self.f, cluster, stored, self.partial, self.available, updates)
        self.settled += 1
        names = ", ".join(r for r in cluster if not r.startswith("%"))
        doc = f"Narrow values per {', '.join(self.f.lets[cluster[0]].type.axes) or 'all'}"
        doc += f": {names}." if names else "."
        self.steps.append(printer.step(f"{self.name}_settle_{self.settled}", doc))
        self.available |= set(stored)

    # ---- which values are computed together

    def _simple(self, ref: Ref) -> bool:
        """Whether a value is computed from single values."""
        op = self.f.lets[ref].op
        return ref in self.f.measured or isinstance(op, SIMPLE) or self.f.given(ref)

    def _together(self, ref: Ref) -> bool:
        """Whether a value is computed from values at its own place."""
        op = self.f.lets[ref].op
        return self._simple(ref) and not isinstance(op, (Rename, Lookup))

    def _waits(self, ref: Ref, left: Sequence[Ref]) -> bool:
        if ref in self.f.measured:
            return False
        return any(r in left for r in operands(self.f.lets[ref].op))

    def _cluster(self, left: Sequence[Ref]) -> list[Ref]:
        first = next(r for r in left if not self._waits(r, left))
        cluster = [first]
        if not self._simple(first):
            return [*cluster, *self._twin(first, left)]
        axes = set(self.f.lets[first].type.axes)
        for ref in left:
            if ref in cluster or not self._simple(ref) or set(self.f.lets[ref].type.axes) != axes:
                continue
            rest = [r for r in left if r not in cluster]
            own = operands(self.f.lets[ref].op)
            apart = not self._together(ref) and any(r in cluster for r in own)
            if not self._waits(ref, rest) and not apart:
                cluster.append(ref)
        return cluster

    def _twin(self, ref: Ref, left: Sequence[Ref]) -> list[Ref]:
        """The variance beside a mean, or the mean beside a variance."""
        op = self.f.lets[ref].op
        if not isinstance(op, Pool) or op.statistic not in TWINS:
            return []
        other = replace(op, statistic=TWINS[op.statistic])
        return [r for r in left if self.f.lets[r].op == other]

    # ---- what torch computes

    def _torch(self, cluster: Sequence[Ref]) -> TorchStep:
        let = self.f.lets[cluster[0]]
        match let.op:
            case Along("softmax", value, axis):
                axes = self.f.lets[value].type.axes
                dims: tuple[int, ...] = (axes.index(axis),)
                return TorchStep(
                    "softmax", self._operand(value, axes), dims, (self._result(let.name),)
                )
            case Pool():
                return self._pooled(let, cluster)
        op = let.op
        raise NotPlannable(getattr(op, "function", type(op).__name__).lower())

    def _pooled(self, let: Let, cluster: Sequence[Ref]) -> TorchStep:
        op = let.op
        assert isinstance(op, Pool)
        if any(not isinstance(m, Ones) for _, m in op.over):
            raise NotPlannable("a narrow pool by groups, blocks or a given matrix")
        if op.statistic not in ("sum", "mean", "var") or op.ddof or op.about:
            raise NotPlannable(f"{op.statistic} of narrow values")
        axes = self.f.lets[op.value].type.axes
        dims = tuple(axes.index(leaf) for leaf in self.f.leaves(axis for axis, _ in op.over))
        for ref in cluster:
            if self.f.order(ref) != self.f.lets[ref].type.axes:
                raise NotPlannable("a gradient in another order of axes")
        by = {self.f.lets[r].op.statistic: r for r in cluster}  # type: ignore[union-attr]
        function = "moments" if "var" in by else op.statistic
        names = ("mean", "var") if "var" in by else (op.statistic,)
        return TorchStep(
            function,
            self._operand(op.value, axes),
            dims,
            tuple(self._result(by[n]) if n in by else ("", ()) for n in names),
            None if op.where is None else self._operand(op.where, axes),
            None if op.weight is None else self._operand(op.weight, axes),
        )

    def _result(self, ref: Ref) -> tuple[str, Keys]:
        return f"value {ref}", tuple(f"size {axis}" for axis in self.f.order(ref))

    def _operand(self, ref: Ref, axes: Sequence[str]) -> Operand:
        """A tensor with a dimension for each of some axes."""
        order = self.f.order(ref)
        if not set(order) <= set(axes):
            raise NotPlannable("a weight on axes that what it weighs does not have")
        places = tuple(order.index(axis) if axis in order else None for axis in axes)
        sizes = tuple(f"size {axis}" for axis in order)
        if not self.f.given(ref):
            return Operand(f"value {ref}", places, sizes, None)
        name = self.f.lets[ref].op.name  # type: ignore[union-attr]
        return Operand(f"tensor {name}", places, sizes, self.f.absent(ref))
