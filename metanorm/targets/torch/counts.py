"""Print the numbers of elements of pools."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import ByIndex, Grouping, Ones, pool_size
from metanorm.ir.nodes import Count, Let, Pool, Ref
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import SizeOf
from metanorm.targets.python.pyir import Assign, Binary, Expr, Name, Stmt
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, method
from metanorm.targets.torch.overlapping import is_overlapping
from metanorm.targets.torch.pools import PoolPrinter


class CountPrinter:
    """Prints the counts of one function. `pools` prints its statistics."""

    def __init__(self, context: Context, broadcaster: Broadcaster, pools: PoolPrinter) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.pools = pools

    def count(self, let: Let, op: Count, out: list[Stmt]) -> None:
        """Print the number of elements of each pool."""
        weights = [ref for ref in (op.where, op.weight) if ref is not None]
        indexed = [(axis, m) for axis, m in op.over if isinstance(m, ByIndex)]
        inner = {a for r in weights for a in self.pools.uncut(self.ctx.lets[r].type.axes, op.over)}
        if is_overlapping(op):
            self._count_along(let, op, weights, inner, out)
            return
        factors = [
            self._pool_size(axis, m)
            for axis, m in op.over
            if axis not in inner and not isinstance(m, ByIndex)
        ]
        if not weights and not indexed:
            self._number(let, factors, out)
            return
        if weights:
            inner.update(axis for axis, _ in indexed)
            expr, dims = self._weighed(op, weights, inner, out)
        else:
            axis, matrix = indexed[0]
            first = Name(self.ctx.first)
            expr = method(self.ctx.groups(matrix.index), "sizes", first)
            dims = (Dim(self.ctx.space.cell_axis(axis, matrix)),)
        if factors:
            expr = Binary("*", (expr, *factors))
        self.pools.bind_statistic(let, expr, dims, out, "count")

    def _count_along(
        self, let: Let, op: Count, weights: list[Ref], inner: set[str], out: list[Stmt]
    ) -> None:
        """Print the number of elements of overlapping pools."""
        if weights:
            expr, dims = self._weighed(op, weights, {*inner, *(a for a, _ in op.over)}, out)
            self.pools.bind_statistic(let, expr, dims, out, "count")
            return
        regular = [(axis, m) for axis, m in op.over if isinstance(m, (Ones, RegularPartition))]
        factors = [Value(self._pool_size(axis, m), number=True) for axis, m in regular]
        factors += [
            self.pools.overlapping.sizes(axis, m) for axis, m in op.over if (axis, m) not in regular
        ]
        exprs, dims = self.broadcaster.broadcast(factors, let.type.axes)
        expr = exprs[0] if len(exprs) == 1 else Binary("*", tuple(exprs))
        self.pools.bind_statistic(let, expr, dims, out, "count")

    def _number(self, let: Let, factors: list[Expr], out: list[Stmt]) -> None:
        expr = factors[0] if len(factors) == 1 else Binary("*", tuple(factors))
        name = Name(self.ctx.name_of(let.name, "count"))
        out.append(Assign((name,), expr))
        self.ctx.values[let.name] = Value(name, number=True)

    def _pool_size(self, axis: str, matrix: Grouping) -> Expr:
        """The number of positions in a pool."""
        return self.ctx.lengths.number(pool_size(matrix, SizeOf(axis)))

    def _weighed(
        self, op: Count, weights: Sequence[Ref], inner: set[str], out: list[Stmt]
    ) -> tuple[Expr, Dims]:
        """The total weight of each pool, on the axes of the weights."""
        values = [self.ctx.values[ref] for ref in weights]
        full_dims = self.broadcaster.common_dims(self.ctx.space.ordered(inner), values)
        dims = tuple(Dim(d.axis) for d in full_dims if d.axis in inner)
        first, shape = Name(self.ctx.first), self.ctx.lengths.shape(dims)
        over = tuple(pair for pair in op.over if pair[0] in inner)
        if {axis for axis, _ in over} == inner and all(isinstance(m, Ones) for _, m in over):
            weights_by_keyword = self.pools.weights(op, Value(first, dims))
            return call("runtime.count", first, shape, **weights_by_keyword), ()
        ones = self.ctx.in_variable(Value(method(first, "new_ones", shape), dims), out)
        return self.pools.call(Pool("sum", "", over, op.where, op.weight), ones, out)
