"""Check the rules of nests. Tests run it for the whole library; an illegal nest is a bug."""

from __future__ import annotations

from metanorm.ir.aggregation import Reach
from metanorm.ir.nodes import (
    AxisMap,
    Cast,
    Concat,
    Let,
    Link,
    Lookup,
    Piece,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.nodes import Pool as PoolOp
from metanorm.ir.operands import axes_read_elsewhere, cut_axes, operands
from metanorm.nest.nest import Block, Nest
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
from metanorm.passes.backward import GRADIENT

ORDER = ("begin", "before", "sweep", "between", "after", "end")
OF_ISLANDS = ("before", "between", "after")


class IllegalNest(Exception):
    """A nest breaks a rule of its page: a bug in metanorm."""


def verify(nest: Nest) -> None:
    """Raise `IllegalNest` unless everything is computed before it is read, where it can be."""
    _Verifier(nest).run()


class _Verifier:
    def __init__(self, nest: Nest) -> None:
        self.nest, self.index = nest, nest.program.index
        self.cell_values: set[Ref] = set()
        self.sweep_values: set[Ref] = set()  # of the current block
        self.accumulated: list[int] = []
        self.written: list[str] = []

    def run(self) -> None:
        self._shape()
        for block in self.nest.blocks:
            self.sweep_values = set()
            for statement in block.statements:
                self._statement(block, statement)
        numbers = list(range(len(self.nest.reductions)))
        self._demand(self.accumulated == numbers, "each reduction is measured once, in order")
        roles = ("result", "returned") + (("saved",) if self.nest.direction == "forward" else ())
        for name in self.index.declarations:
            gradient = self.nest.array.get(f"to.{GRADIENT}{name}")
            if gradient is not None and self.nest.direction == "backward":
                as_declared = {*gradient.axes} == {*self.index.axes_of(name)}
                self._demand(as_declared, f"{gradient.name} on the axes of {name}")
        result_names = [array.name for array in self.nest.arrays if array.role in roles]
        self._demand(sorted(result_names) == sorted(self.written), "each result is written once")

    def _demand(self, holds: bool, rule: str) -> None:
        if not holds:
            nest = self.nest
            raise IllegalNest(f"{nest.program.name}, {nest.variant}, {nest.direction}: {rule}")

    def _shape(self) -> None:
        whens = [block.when for block in self.nest.blocks]
        pairs = ["sweep", "between"] * len(self.nest.sweeps)
        self._demand(whens == ["begin", "before", *pairs, "after", "end"], "blocks in their order")
        names = [array.name for array in self.nest.arrays]
        self._demand(len(names) == len({*names}), "each array once")
        axes = {axis for group in self.nest.loops for axis in group} - {self.nest.group_axis}
        data_axes = {*self.nest.data_axes}
        self._demand(axes == data_axes | {*self.nest.extra_axes}, "loops over the axes of the data")
        loop_axes = {*data_axes, self.nest.group_axis}
        self._demand(loop_axes.issuperset(self.nest.islands), "islands along loops")

    def _statement(self, block: Block, statement: Statement) -> None:
        match statement:
            case Load(let, array):
                declared = self.nest.array.get(array)
                self._demand(declared is not None, f"an array {array} to read")
                if declared is not None:
                    self._demand({*declared.axes} == {*let.type.axes}, f"the axes of {array}")
                self._define(block, let.name)
            case Compute() | Gather() | Pool() | Scan():
                self._compute(block, statement)
            case Accumulate(number):
                self._accumulate(block, number)
            case Finish():
                self._finish(block, statement)
            case Store():
                self._store(block, statement)
            case Update():
                self._update(block, statement)

    def _compute(self, block: Block, statement: Compute | Gather | Pool | Scan) -> None:
        """Operands are there, and those of cells in the block of the cells that read them."""
        let, in_sweep = statement.let, block.when == "sweep"
        self._demand_names(block, let)
        if isinstance(statement, Scan):
            self._scan(let)
        self._whole_axis(block, let)
        readable_axes = self._readable_axes(let)
        for ref in operands(let.op):
            self._require(block, ref)
            if not in_sweep:
                is_readable = readable_axes.issuperset(self.index.types[ref].axes)
                self._demand(is_readable, f"{ref} at the place of {let.name}")
        if in_sweep and isinstance(statement, Pool):
            self._pool_of_element(let)
        elif in_sweep:
            self._demand(isinstance(statement, (Compute, Scan)), "sweeps do not gather")
        self._define(block, let.name)

    def _demand_names(self, block: Block, let: Let) -> None:
        """Edges and dtypes that an operation has by name are known where it is computed."""
        match let.op:
            case Link(edges=edges):
                is_known = edges in self.nest.array and block.when != "sweep"
                self._demand(is_known, f"edges {edges} to follow")
            case Cast(to=to) if to.like:
                is_known = to.name in self.nest.followed_dtypes
                self._demand(is_known, f"the dtype of {to.name} for {let.name}")

    def _readable_axes(self, let: Let) -> set[str]:
        """The axes that operands of a value may have outside of sweeps: its own, and those along
        which it reads."""
        axes = self.nest.determined_axes(let.type.axes)
        match let.op:
            case PoolOp(over=over):
                axes |= {leaf for axis, _ in over for leaf in self.index.space.leaves(axis)}
            case Rename(old=axis) | Lookup(axis=axis) | AxisMap(axis=axis) | Recurrence(axis=axis):
                axes.add(axis)
            case Piece() | Concat():
                axes |= cut_axes(let.op, self.index.space)
        return axes

    def _accumulate(self, block: Block, number: int) -> None:
        reduction = self.nest.reductions[number]
        self._demand(block.when == "sweep", "elements are taken in in sweeps")
        for ref in (reduction.value, reduction.where, reduction.weight):
            if ref is not None:
                self._require(block, ref)
        self.accumulated.append(number)

    def _finish(self, block: Block, statement: Finish) -> None:
        """A statistic is computed from a reduction that is complete."""
        name = statement.let.name
        reduction = self.nest.reductions[statement.reduction]
        is_measured = statement.reduction in self.accumulated
        self._demand(is_measured, f"{name} is measured before it is finished")
        is_found = statement.statistic in reduction.row.statistics
        self._demand(is_found, f"{statement.statistic} is found by {reduction.kind}")
        is_complete = (block.when == "end") == reduction.terminal
        self._demand(is_complete, f"{name} is finished when it is complete")
        self._define(block, name)

    def _store(self, block: Block, statement: Store) -> None:
        """Results are written in sweeps, values of cells outside of them."""
        array = statement.array
        self._require(block, statement.value)
        role = self.nest.array[array].role if array in self.nest.array else ""
        roles = ("result",) if block.when == "sweep" else ("returned", "saved")
        self._demand(role in roles, f"a place for {array}")
        self.written.append(array)

    def _update(self, block: Block, statement: Update) -> None:
        """Buffers are written at the end, by values in the order of their axes."""
        array, value = statement.array, statement.value
        self._require(block, value)
        order = self.nest.axis_orders.get(value, ())  # set by whatever array comes first
        covers_axes = {*order} == {*self.index.types[value].axes}
        keeps_order = covers_axes and self.nest.array[array].axes == order
        self._demand(block.when == "end" and keeps_order, f"{array} follows {value} at the end")

    def _pool_of_element(self, let: Let) -> None:
        """A sweep pools what one element has along the extra axes, all of it."""
        assert isinstance(let.op, PoolOp)
        pooled = {leaf for axis, _ in let.op.over for leaf in self.index.space.leaves(axis)}
        value_axes = {*self.index.types[let.op.value].axes}
        whole = pooled == value_axes - {*self.nest.data_axes} and {*self.nest.extra_axes} >= pooled
        self._demand(whole, f"all of an element for {let.name}")

    def _scan(self, let: Let) -> None:
        """A scan runs along one axis, whose segments an index names if it stays within them."""
        if isinstance(let.op, Recurrence):
            return
        assert isinstance(let.op, PoolOp)
        one_axis = len(let.op.over) == 1 and isinstance(let.op.over[0][1], Reach)
        self._demand(one_axis, f"one axis to scan for {let.name}")
        ((axis, reach),) = let.op.over
        if isinstance(reach, Reach) and reach.within is not None:
            labels = self.nest.array.get(reach.within)
            is_known = labels is not None and (labels.role, labels.axes) == ("index", (axis,))
            self._demand(is_known, f"the segments {reach.within} of {axis} for {let.name}")

    def _whole_axis(self, block: Block, let: Let) -> None:
        """A worker that has a part of an axis reads no values of other parts."""
        if block.when in (*OF_ISLANDS, "sweep"):
            split_axes = {*self.nest.islands} & self.nest.determined_axes(
                axes_read_elsewhere(let.op)
            )
            self._demand(not split_axes, f"all of the axis that {let.name} is found along")

    def _define(self, block: Block, ref: Ref) -> None:
        self._demand(ref not in self.cell_values and ref not in self.sweep_values, f"{ref} once")
        wide = self.nest.is_wide(ref)
        self._demand(wide == (block.when == "sweep"), f"{ref} in the block of its size")
        if block.when in OF_ISLANDS:
            axes = self.nest.determined_axes(self.index.types[ref].axes)
            self._demand(axes >= {*self.nest.islands}, f"{ref} for each island")
        (self.sweep_values if wide else self.cell_values).add(ref)

    def _require(self, block: Block, ref: Ref) -> None:
        self._demand(
            ref in self.cell_values or ref in self.sweep_values, f"{ref} before it is read"
        )
