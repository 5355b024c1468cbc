"""Lower a sweep plan to a nest: declare its arrays, and place its values in blocks.

The worker that has an island in its cache computes the values of that island. The `begin` block
computes what all islands share, the `end` block what waits for all of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from metanorm.ir.aggregation import Reach
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Concat,
    Input,
    Let,
    Link,
    Lookup,
    Param,
    Piece,
    Recurrence,
    Rename,
)
from metanorm.ir.nodes import Pool as PoolOp
from metanorm.ir.operands import axes_read_elsewhere, operands
from metanorm.nest.arguments import (
    axis_orders,
    call_fields,
    followed_dtypes,
    returned_outputs,
    segment_indices,
)
from metanorm.nest.layouts import AxisGroup, Layout
from metanorm.nest.nest import Array, Block, Nest
from metanorm.nest.statements import (
    Accumulate,
    Compute,
    Finish,
    Gather,
    Load,
    Pool,
    Scan,
    Statement,
    Store,
    Update,
)
from metanorm.passes.directions import Direction
from metanorm.plan.sweeps import Plan

EXTERNAL_OPS = (Input, Param, Buffer)


def nest_from_plan(
    plan: Plan,
    variant: str,
    direction: Direction,
    layout: Layout,
    loops: tuple[AxisGroup, ...],
    saved: tuple[str, ...],
) -> Nest:
    """The nest of an eligible plan, with loops in this order. `kept` are the names of the
    statistics that the forward kernel saves for the backward one."""
    builder = _NestBuilder(plan, saved)
    return Nest(
        variant,
        direction,
        layout,
        plan.program,
        (*((axis,) for axis in plan.extra_axes), *_with_groups(plan, loops)),
        plan.data_axes,
        plan.extra_axes,
        plan.group_index,
        plan.grouped_axis,
        plan.group_axis,
        plan.islands,
        tuple(builder.arrays()),
        call_fields(plan, saved),
        saved,
        followed_dtypes(plan.program),
        plan.reductions,
        tuple(builder.blocks()),
    )


def _with_groups(plan: Plan, loops: tuple[AxisGroup, ...]) -> tuple[AxisGroup, ...]:
    """The loops, with a loop over groups around the loop over grouped rows."""
    loops_with_groups: list[AxisGroup] = []
    for group in loops:
        if plan.group_axis is not None and group == (plan.grouped_axis,):
            loops_with_groups.append((plan.group_axis,))
        loops_with_groups.append(group)
    return tuple(loops_with_groups)


class _NestBuilder:
    def __init__(self, plan: Plan, saved: Sequence[str]) -> None:
        self.plan, self.saved = plan, saved
        self.program, self.index = plan.program, plan.program.index
        self.axis_orders = axis_orders(plan)
        self.labels = {*segment_indices(self.program)}  # the indices that rows or scans go by
        self.labels |= {plan.group_index} if plan.group_index else set()

    # ---- arrays

    def arrays(self) -> Iterator[Array]:
        """The arrays that are read, in the order of declarations, then those that are written."""
        read_names = {let.op.name for let in self.program.body if isinstance(let.op, EXTERNAL_OPS)}
        read_names |= {update.buffer for update in self.program.updates}
        read_names |= self.labels
        read_names |= {let.op.edges for let in self.program.body if isinstance(let.op, Link)}
        for name in self.index.declarations:
            if name in read_names:
                yield self._input_array(name)
        outputs = dict(self.program.outputs)
        for name, ref in returned_outputs(self.program, self.saved):
            wide = set(self.plan.data_axes) <= set(self.index.types[ref].axes)
            axes = self.axis_orders.get(ref, self.index.types[ref].axes)
            yield Array(f"to.{name}", "result" if wide else "returned", axes)
        for name in self.saved:
            if name in outputs:
                ref = outputs[name]
                yield Array(name, "saved", self.axis_orders.get(ref, self.index.types[ref].axes))

    def _input_array(self, name: str) -> Array:
        index, axes = self.index, self.index.axes_of(name)
        wide = set(self.plan.data_axes) <= set(axes)
        if name in index.params:
            param = index.params[name]
            return Array(name, "given", axes, "real", bool(param.switches), param.absent or 0.0)
        if name in index.buffers:
            return Array(name, "given", axes, "real", index.buffers[name].tracked)
        declared = index.inputs[name]
        if name in self.saved:
            return Array(name, "saved", axes)
        if name in self.labels:
            return Array(name, "index", axes, "int", not declared.required)
        if declared.sort == "edges":
            return Array(name, "edges", axes, "int")
        kinds = (index.types[let.name].kind for let in self.program.body if let.op == Input(name))
        absent = declared.default if isinstance(declared.default, float) else 0.0
        kind, optional = next(kinds), not declared.required and declared.drawn is None
        return Array(name, "data" if wide else "given", axes, kind, optional, absent)

    # ---- blocks

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order in which they run."""
        begin, before = self._before_sweeps()
        after, end = self._after_sweeps()
        yield Block("begin", tuple(map(self._statement, begin)))
        yield Block("before", tuple(map(self._statement, before)))
        number = 0
        deferred_finishes: list[Statement] = []
        for sweep in self.plan.sweeps:
            statements = [self._statement(let) for let in sweep.maps]
            finishes: list[Statement] = []
            for r in sweep.reductions:
                statements.append(Accumulate(number))
                reduction_finishes = [
                    Finish(self.index.lets[ref], number, name) for name, ref in r.results
                ]
                (deferred_finishes if r.terminal else finishes).extend(reduction_finishes)
                number += 1
            statements += [Store(f"to.{name}", ref) for name, ref in sweep.outputs]
            yield Block("sweep", tuple(statements))
            yield Block("between", (*finishes, *map(self._statement, sweep.narrow)))
        yield Block("after", tuple(map(self._statement, after)))
        yield Block("end", (*deferred_finishes, *map(self._statement, end), *self._results()))

    def _results(self) -> Iterator[Statement]:
        """The stores of narrow results and the updates of buffers."""
        momentum_names = momenta(self.program)
        for update in self.program.updates:
            momentum = momentum_names[update.momentum] if update.averages else None
            yield Update(update.buffer, update.value, momentum)
        wide = {name for sweep in self.plan.sweeps for name, _ in sweep.outputs}
        for name, ref in self.program.outputs:
            if name not in wide:
                yield Store(name if name in self.saved else f"to.{name}", ref)

    def _statement(self, let: Let) -> Statement:
        match let.op:
            case Input(name) | Param(name) | Buffer(name):
                return Load(let, name)
            case Rename() | Lookup() | Piece() | Concat():
                return Gather(let)
            case PoolOp(over=((_, Reach()),)) | Recurrence():
                return Scan(let)
            case PoolOp() | AxisMap():
                return Pool(let)
            case _:
                return Compute(let)

    def _before_sweeps(self) -> tuple[list[Let], list[Let]]:
        """Split the values before all sweeps into those that islands share, and per-island ones."""
        lets = self.plan.prologue
        shared_by_islands = {let.name for let in lets if not self._is_per_island(let)}
        for let in reversed(lets):
            if let.name in shared_by_islands:
                shared_by_islands.update(operands(let.op))
        return _partition(lets, shared_by_islands)

    def _after_sweeps(self) -> tuple[list[Let], list[Let]]:
        """Split the values after all sweeps into per-island ones, and those that wait for all."""
        lets = self.plan.epilogue
        terminal = (r for r in self.plan.reductions if r.terminal)
        deferred = {ref for r in terminal for _, ref in r.results}
        for let in lets:
            if not self._is_per_island(let) or deferred.intersection(operands(let.op)):
                deferred.add(let.name)
        deferred_lets, per_island = _partition(lets, deferred)
        return per_island, deferred_lets

    def _is_per_island(self, let: Let) -> bool:
        islands = set(self.plan.islands)
        if islands & self.plan.determined_axes(axes_read_elsewhere(let.op)):
            return False  # it reads what other workers may not have computed yet
        return bool(islands) and islands <= self.plan.determined_axes(let.type.axes)


def _partition(lets: Sequence[Let], selected_names: Container[str]) -> tuple[list[Let], list[Let]]:
    """The bindings whose names are selected, and the other ones."""
    selected = [let for let in lets if let.name in selected_names]
    return selected, [let for let in lets if let.name not in selected_names]
