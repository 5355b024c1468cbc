"""A sweep plan as a nest: its arrays, and its values in blocks.

What belongs to islands is computed with them, by whoever has them in a cache; what all islands
share is computed at the beginning, and what waits for all of them at the end.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from metanorm.ir.aggregation import Reach
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import AxisMap, Buffer, Input, Let, Link, Lookup, Param, Rename
from metanorm.ir.nodes import Pool as PoolOp
from metanorm.ir.operands import operands
from metanorm.nest.arguments import fields, followed_dtypes, orders_of, results
from metanorm.nest.layouts import Group, Layout
from metanorm.nest.nest import (
    Accumulate,
    Array,
    Block,
    Compute,
    Finish,
    Gather,
    Load,
    Nest,
    Pool,
    Scan,
    Statement,
    Store,
    Update,
)
from metanorm.passes.directions import Direction
from metanorm.plan.sweeps import Plan

GIVEN = (Input, Param, Buffer)


def nest_from_plan(
    plan: Plan,
    variant: str,
    direction: Direction,
    layout: Layout,
    loops: tuple[Group, ...],
    kept: tuple[str, ...],
) -> Nest:
    """The nest of a plan that kernels support, for loops in this order; `kept` is what passes from
    the forward kernel to the backward one."""
    maker = _Maker(plan, kept)
    return Nest(
        variant,
        direction,
        layout,
        plan.program,
        _with_groups(plan, loops),
        plan.data_axes,
        plan.groups,
        plan.grouped,
        plan.cell,
        plan.islands,
        tuple(maker.arrays()),
        fields(plan, kept),
        kept,
        followed_dtypes(plan.program),
        plan.reductions,
        tuple(maker.blocks()),
    )


def _with_groups(plan: Plan, loops: tuple[Group, ...]) -> tuple[Group, ...]:
    """The loops, with one over groups of rows around that over the rows."""
    found: list[Group] = []
    for group in loops:
        if plan.cell is not None and group == (plan.grouped,):
            found.append((plan.cell,))
        found.append(group)
    return tuple(found)


class _Maker:
    def __init__(self, plan: Plan, kept: Sequence[str]) -> None:
        self.plan, self.kept = plan, kept
        self.program, self.index = plan.program, plan.program.index
        self.orders = orders_of(plan)

    # ---- arrays

    def arrays(self) -> Iterator[Array]:
        """What is read, in the order of declarations, and then what is written."""
        read = {let.op.name for let in self.program.body if isinstance(let.op, GIVEN)}
        read |= {update.buffer for update in self.program.updates}
        read |= {self.plan.groups} if self.plan.groups else set()
        read |= {let.op.edges for let in self.program.body if isinstance(let.op, Link)}
        for name in self.index.declarations:
            if name in read:
                yield self._given(name)
        outputs = dict(self.program.outputs)
        for name, ref in results(self.program, self.kept):
            wide = set(self.plan.data_axes) <= set(self.index.types[ref].axes)
            order = self.orders.get(ref, self.index.types[ref].axes)
            yield Array(f"to.{name}", "result" if wide else "returned", order)
        for name in self.kept:
            if name in outputs:
                ref = outputs[name]
                yield Array(name, "saved", self.orders.get(ref, self.index.types[ref].axes))

    def _given(self, name: str) -> Array:
        index, axes = self.index, self.index.axes_of(name)
        wide = set(self.plan.data_axes) <= set(axes)
        if name in index.params:
            param = index.params[name]
            return Array(name, "given", axes, "real", bool(param.switches), param.absent or 0.0)
        if name in index.buffers:
            return Array(name, "given", axes, "real", index.buffers[name].tracked)
        declared = index.inputs[name]
        if name in self.kept:
            return Array(name, "saved", axes)
        if name == self.plan.groups:
            return Array(name, "index", axes, "int", not declared.required)
        if declared.sort == "edges":
            return Array(name, "edges", axes, "int")
        kinds = (index.types[let.name].kind for let in self.program.body if let.op == Input(name))
        absent = declared.default if isinstance(declared.default, float) else 0.0
        kind, optional = next(kinds), not declared.required
        return Array(name, "data" if wide else "given", axes, kind, optional, absent)

    # ---- blocks

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order in which they are done."""
        begin, before = self._opening()
        after, end = self._closing()
        yield Block("begin", tuple(map(self._statement, begin)))
        yield Block("before", tuple(map(self._statement, before)))
        number = 0
        late: list[Statement] = []
        for sweep in self.plan.sweeps:
            done = [self._statement(let) for let in sweep.maps]
            found: list[Statement] = []
            for r in sweep.reductions:
                done.append(Accumulate(number))
                finish = [Finish(self.index.lets[ref], number, name) for name, ref in r.results]
                (late if r.terminal else found).extend(finish)
                number += 1
            done += [Store(f"to.{name}", ref) for name, ref in sweep.outputs]
            yield Block("sweep", tuple(done))
            yield Block("between", (*found, *map(self._statement, sweep.narrow)))
        yield Block("after", tuple(map(self._statement, after)))
        yield Block("end", (*late, *map(self._statement, end), *self._ends()))

    def _ends(self) -> Iterator[Statement]:
        """What is given back, and what is kept from call to call."""
        named = momenta(self.program)
        for update in self.program.updates:
            momentum = named[update.momentum] if update.averages else None
            yield Update(update.buffer, update.value, momentum)
        wide = {name for sweep in self.plan.sweeps for name, _ in sweep.outputs}
        for name, ref in self.program.outputs:
            if name not in wide:
                yield Store(name if name in self.kept else f"to.{name}", ref)

    def _statement(self, let: Let) -> Statement:
        match let.op:
            case Input(name) | Param(name) | Buffer(name):
                return Load(let, name)
            case Rename() | Lookup():
                return Gather(let)
            case PoolOp(over=((_, Reach()),)):
                return Scan(let)
            case PoolOp() | AxisMap():
                return Pool(let)
            case _:
                return Compute(let)

    def _opening(self) -> tuple[list[Let], list[Let]]:
        """Of the values before all sweeps, those of all islands together, and the rest."""
        lets = self.plan.prologue
        shared = {let.name for let in lets if not self._of_islands(let)}
        for let in reversed(lets):
            if let.name in shared:
                shared.update(operands(let.op))
        return _parted(lets, shared)

    def _closing(self) -> tuple[list[Let], list[Let]]:
        """Of the values after all sweeps, those of islands, and those that wait for all."""
        lets = self.plan.epilogue
        late = (r for r in self.plan.reductions if r.terminal)
        waiting = {ref for r in late for _, ref in r.results}
        for let in lets:
            if not self._of_islands(let) or waiting.intersection(operands(let.op)):
                waiting.add(let.name)
        last, own = _parted(lets, waiting)
        return own, last

    def _of_islands(self, let: Let) -> bool:
        islands = set(self.plan.islands)
        match let.op:
            case PoolOp(over=((axis, Reach()),)) if axis in islands:  # all of it is needed
                return False
        return bool(islands) and islands <= self.plan.at_hand(let.type.axes)


def _parted(lets: Sequence[Let], named: Container[str]) -> tuple[list[Let], list[Let]]:
    """Those that are named, and the others."""
    chosen = [let for let in lets if let.name in named]
    return chosen, [let for let in lets if let.name not in named]
