"""Kernels for what is narrow: values on the same axes together, for some cells at a time.

A statistic that tiles have measured is joined from their partial results where it is first read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from metanorm.ir.aggregation import Ones
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import Count, Lookup, Ref, Rename, Update
from metanorm.plan.sweeps import NotPlannable, Reduction
from metanorm.targets.python.pyir import Assign, Expr, If, Name, Stmt, Tuple
from metanorm.targets.triton.frame import Arguments, Frame
from metanorm.targets.triton.kernel import function_of
from metanorm.targets.triton.scope import COLUMN, Scope
from metanorm.targets.triton.statistics import PARTS
from metanorm.targets.triton.steps import Keys, Parts, SettleStep
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    call,
    cast,
    full,
    infix,
    is_given,
    lying,
    plus,
    times,
)


class SettlePrinter:
    """Prints one kernel. `partial` has the parts of the statistics that are joined, `available`
    are values that have arrays, and `stored` those that get one."""

    def __init__(
        self, frame: Frame, cluster: Sequence[Ref], stored: Collection[Ref],
        partial: Mapping[int, Parts], available: Collection[Ref], updates: Sequence[Update],
    ) -> None:  # fmt: skip
        self.f, self.partial = frame, partial
        self.arguments = Arguments()
        self.cluster = cluster
        self.s = _CellScope(frame, self.arguments)
        self.s.cluster = frozenset(cluster)
        self.axes = frame.order(cluster[0])
        self.arrays: list[tuple[str, Keys]] = []
        self._places()
        for ref in cluster:
            if ref in frame.measured and ref not in self.s.local and ref not in available:
                self._joined(*frame.measured[ref])
            value = self.s.value(ref)
            if ref in stored:
                self._stored(ref, value)
            for update in updates:
                if update.value == ref:
                    self._updated(update, value)

    def step(self, name: str, doc: str) -> SettleStep:
        """The kernel, with what a call has to bring."""
        keys = tuple(self.arguments.keys)
        meta = ("CELLS", "PARTS")
        function = function_of(name, doc, self.arguments, meta, self.s.body)
        sizes = tuple(f"size {axis}" for axis in self.axes)
        return SettleStep(function, (*keys, "REAL", "INDEX", *meta), sizes, tuple(self.arrays))

    def _places(self) -> None:
        s, head = self.s, self.s.head
        first = times(cast(call("tl.program_id", ZERO), "INDEX"), Name("CELLS"))
        lane = plus(first, lying(call("tl.arange", ZERO, Name("CELLS"))))
        cells = self.f.size(self.arguments, self.axes)
        variable = Name("cell")
        if len(self.axes) == 1:
            variable = Name(self.arguments.names.fresh(self.axes[0].lower()))
        head.append(Assign((variable,), lane))
        rest: Expr = variable
        for number, axis in reversed(list(enumerate(self.axes))):
            if len(self.axes) > 1:
                here = infix("%", rest, self._size(axis)) if number else rest
                name = Name(self.arguments.names.fresh(axis.lower()))
                head.append(Assign((name,), here))
                s.lies(axis, name, COLUMN)
                rest = infix("//", rest, self._size(axis))
            else:
                s.lies(axis, variable, COLUMN)
        head.append(Assign((Name("in_cells"),), infix("<", variable, cells)))
        s.masks["column"] = Name("in_cells")

    def _size(self, axis: str) -> Expr:
        return self.f.size(self.arguments, (axis,))

    # ---- statistics

    def _joined(self, number: int, r: Reduction) -> None:
        """All results of a statistic, from its parts."""
        parts = self.partial[number]
        wanted = self.s.wanted(r.results[0][1])
        pointers = [
            self.arguments(key, f"{wanted}_{name}s")
            for key, name in zip(parts.names, PARTS[r.kind])
        ]
        count = self.arguments(f"count {number}", f"{wanted}_parts")
        cells = self.f.size(self.arguments, r.cells) if r.cells else ONE
        place = self.s.place(r.cells)
        if place == ZERO:
            place = call("tl.zeros", Tuple((ONE, Name("CELLS"))), Name("INDEX"))
        given = (*pointers, place, Name("in_cells"), cells, count)
        meta = (Name("REAL"), Name("CELLS"), Name("PARTS"))
        taken = {"sum": "sum_of_parts", "mean": "mean_of_parts", "var": "moments_of_parts"}
        names = {s: Name(self.arguments.names.fresh(self.s.wanted(ref))) for s, ref in r.results}
        order = ("mean", "var") if r.kind == "var" else (r.kind,)
        targets = tuple(names.get(s, Name("_")) for s in order)
        self.s.body.append(Assign(targets, call(f"arithmetic.{taken[r.kind]}", *given, *meta)))
        for statistic, ref in r.results:
            self.s.found(ref, names[statistic])

    # ---- results

    def _stored(self, ref: Ref, value: Expr) -> None:
        order = self.f.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.s.wanted(ref)}_of")
        self._write(pointer, order, value)
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _write(self, pointer: Expr, order: Keys, value: Expr) -> None:
        place = self.s.place(order)
        self.s.body.append(self.s.store(pointer, place, self.s.varies(order), value))

    def _updated(self, update: Update, value: Expr) -> None:
        """A buffer that follows a value."""
        pointer = self.arguments(f"tensor {update.buffer}", update.buffer)
        declared = next(b for b in self.f.program.buffers if b.name == update.buffer)
        order = self.f.leaves(declared.dims)
        if self.f.order(update.value) != order:
            raise NotPlannable("a buffer with other axes than its value")
        sides = self.s.varies(order)
        body: list[Stmt] = []
        if update.averages:
            name = momenta(self.f.program)[update.momentum]
            momentum = full(self.arguments(f"momentum {name}", name))
            before = Name(self.arguments.names.fresh("before"))
            loaded = cast(self.s.load(pointer, self.s.place(order), sides), "REAL")
            body.append(Assign((before,), loaded))
            value = plus(before, times(infix("-", value, before), momentum))
        body.append(self.s.store(pointer, self.s.place(order), sides, value))
        self.s.body.append(If(is_given(pointer), tuple(body)))


class _CellScope(Scope):
    """Values on the axes of a kernel's cells."""

    cluster: frozenset[Ref]

    def computed(self, ref: Ref) -> Expr:
        let = self.frame.lets[ref]
        if ref in self.cluster:
            if isinstance(let.op, (Rename, Lookup)):
                return self.elsewhere(ref)
            if self.frame.by_index(let):
                return self._rows_in_group(ref)
        return super().computed(ref)

    def simple(self, ref: Ref) -> bool:
        return super().simple(ref) or ref in self.cluster

    def _rows_in_group(self, ref: Ref) -> Expr:
        """The number of rows in a group, times the lengths of what is counted with them."""
        op = self.frame.lets[ref].op
        assert isinstance(op, Count) and self.frame.cell is not None
        if op.where or op.weight:
            raise NotPlannable("a count of what a mask leaves")
        group = self.at[self.frame.cell]
        starts = self.arguments("starts")
        sides = self.sides[self.frame.cell]
        after = self.load(starts, plus(group, ONE), sides)
        rows = infix("-", after, self.load(starts, group, sides))
        whole = self.frame.leaves(axis for axis, matrix in op.over if isinstance(matrix, Ones))
        if whole:
            rows = times(rows, self.frame.size(self.arguments, whole))
        return cast(rows, "REAL")
