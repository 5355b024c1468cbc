"""Print the messages between processes that share divided axes: one message per stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from metanorm.ir.aggregation import Aggregation, Ones, grouping_text
from metanorm.ir.division import message_depths
from metanorm.ir.mode_placement import dependencies
from metanorm.ir.nodes import Count, Exchange, FromSums, Let, Mode, Near, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import MinimumPoolSize
from metanorm.targets.python.pyir import Assign, Call, Expr, ExprStmt, Literal, Name, Stmt, Tuple
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Value, call, integer
from metanorm.targets.torch.pools import PoolPrinter
from metanorm.targets.torch.statistics import TORCH_STATISTICS

PROCESSES = "processes"  # the argument of functions that send messages


class ExchangePrinter:
    """Prints the messages of one function. `emit_needed` prints the values that some refs need."""

    def __init__(
        self,
        context: Context,
        broadcaster: Broadcaster,
        pools: PoolPrinter,
        emit_needed: Callable[[Iterable[Ref], list[Stmt]], None],
    ) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.pools = pools
        self.emit_needed = emit_needed
        self.messages = 0
        self.demanded: set[Aggregation] = set()  # the pools whose numbers of values are checked

    @cached_property
    def message_depths(self) -> dict[Ref, int]:
        """The number of messages that each value waits for, one after the other."""
        return message_depths(self.ctx.program)

    def exchange(self, first: Let, out: list[Stmt]) -> None:
        """One message for all values that are ready to be exchanged."""
        assert isinstance(first.op, Exchange)
        lets = [
            let for let in self.ctx.bodies[first.name] if let == first or self._joins(let, first)
        ]
        ops = [let.op for let in lets if isinstance(let.op, Exchange)]
        self.emit_needed((ref for op in ops for ref in operands(op)), out)
        parts = [op.value for op in ops]
        values = [self.ctx.not_none(ref) for ref in parts]
        extremes: list[Expr] = []
        if not first.op.is_sum:
            extremes, values = map(list, zip(*map(self._extreme, lets, ops, values)))
        names = [self._name(let, ref, v) for let, ref, v in zip(lets, parts, values)]
        axes = self._axes(first.op.axes)
        if first.op.is_sum:
            message = self._call("exchange", axes, *(v.expr for v in values))
        else:
            message = self._call("extremes", axes, *extremes)
        message = replace(message, keywords=self._gradient_of(ops))
        out.append(Assign(tuple(names), message))
        for let, name, value in zip(lets, names, values):
            self.ctx.values[let.name] = Value(name, value.dims)

    def _gradient_of(self, ops: Sequence[Exchange]) -> tuple[tuple[str, Expr], ...]:
        """The argument that says of which tensors a message has a gradient, if that is stated."""
        if all(op.gradient_of is None for op in ops):
            return ()
        names = dict.fromkeys(name for op in ops for name in op.gradient_of or ())
        return (("gradient_of", Tuple(tuple(map(Name, names)))),)

    def _extreme(self, let: Let, op: Exchange, value: Value) -> tuple[Expr, Value]:
        """An extreme of the local piece: which one, its value, and how many elements equal it."""
        assert op.ties is not None
        both = (value, self.ctx.not_none(op.ties))
        (expr, ties), dims = self.broadcaster.broadcast(both, let.type.axes)
        return Tuple((Literal(op.operation), expr, ties)), replace(value, expr=expr, dims=dims)

    def _axes(self, axes: Sequence[str]) -> str:
        """The dimensions of tensors that divided axes belong to."""
        dims = [dim for decl in self.ctx.program.inputs for dim in decl.dims]
        unsplit_dims = (next(d for d in dims if axis in self.ctx.space.leaves(d)) for axis in axes)
        return " ".join(dict.fromkeys(unsplit_dims))

    def _call(self, function: str, axes: str, *values: Expr) -> Call:
        """A message, with its number within the function."""
        self.messages += 1
        number = integer(self.messages)
        return call(f"{PROCESSES}.{function}", number, Literal(axes), *values)

    def _joins(self, let: Let, first: Let) -> bool:
        """Whether a value can share the message of another value."""
        if not isinstance(let.op, Exchange) or let.name in self.ctx.values:
            return False
        assert isinstance(first.op, Exchange)
        same = (
            let.op.axes == first.op.axes
            and let.op.is_sum == first.op.is_sum
            and self.message_depths[let.name] == self.message_depths[first.name]
        )
        if not same:
            return False
        needed = set(dependencies(operands(let.op), self.ctx.lets, self.ctx.values))
        if any(isinstance(self.ctx.lets[ref].op, Mode) for ref in needed):
            return False
        branch = self.ctx.mode_placement[first.name]
        placement = self.ctx.mode_placement[let.name]
        if branch is None:
            is_count = isinstance(self.ctx.lets[let.op.value].op, Count)
            return placement is None or (is_count and needed == {let.op.value})
        # What the other branch reads, too, cannot be computed in this one.
        needed_placements = {
            self.ctx.mode_placement[r] for r in needed if operands(self.ctx.lets[r].op)
        }
        return placement == branch and needed_placements <= {branch}

    def _name(self, let: Let, part: Ref, value: Value) -> Name:
        """The variable of an exchanged value: that of its local part, if nothing else reads it."""
        if isinstance(value.expr, Name) and self.ctx.last_use(part):
            return value.expr
        return Name(self.ctx.name_of(let.name, "whole"))

    def near(self, let: Let, op: Near, out: list[Stmt]) -> None:
        """A number to subtract before squares are summed. The call passes the sum to compute, since
        only some dtypes need it."""
        sums, dims = self.pools.summed(Pool("gaps", op.value, op.over, op.where, op.weight), out)
        message = self._call("near", self._axes(op.axes), sums.function, *sums.arguments)
        self.ctx.bind(let, replace(message, keywords=sums.keywords), dims, out, "near")

    def from_sums(self, let: Let, op: FromSums, out: list[Stmt]) -> None:
        """A statistic, computed from exchanged sums."""
        values = [self.ctx.not_none(ref) for ref in op.sums]
        near_value = None if op.near is None else self.ctx.not_none(op.near)
        sums, near, dims = self.broadcaster.broadcast_sums(values, near_value, let.type.axes)
        if op.statistic == "var" or self._is_of_training(let, op):
            self._demand_several(op, values[0].expr, out)
        row = TORCH_STATISTICS[op.statistic]
        expr = call(f"runtime.{row.from_sums}", *sums, like=Name(self.ctx.first), near=near)
        self.ctx.bind(let, expr, dims, out, row.variable)

    def _is_of_training(self, let: Let, op: FromSums) -> bool:
        """Whether a count is that of a statistic which only training measures."""
        branch = self.ctx.mode_placement[let.name]
        return op.statistic == "count" and branch is not None and branch.branch == "train"

    def _demand_several(self, op: FromSums, count: Expr, out: list[Stmt]) -> None:
        """Print the check that a pool has more than one value, if the norm demands it.

        The count of a variance may be weighted. Then the check is that of the unbiased one.
        """
        pools = self._counted_pools(op.sums[0])
        for check in self.ctx.program.checks:
            if isinstance(check, MinimumPoolSize) and check.over == pools:
                owner, axes = Literal(self.ctx.program.name), Literal(self._over_text(check.over))
                demand = ExprStmt(call("runtime.demand_several_in_all", owner, count, axes))
                if pools not in self.demanded:
                    out.append(demand)
                self.demanded.add(pools)

    def _counted_pools(self, ref: Ref) -> Aggregation:
        """The pools whose elements a value counts, each of them once."""
        op = self.ctx.lets[ref].op
        while isinstance(op, (Exchange, Mode)):
            op = self.ctx.lets[operands(op)[0]].op
        return op.over if isinstance(op, Count) else ()

    def _over_text(self, over: Aggregation) -> str:
        return ", ".join(
            self.ctx.axis_text(a) if isinstance(m, Ones) else f"{a}: {grouping_text(m)}"
            for a, m in over
        )
