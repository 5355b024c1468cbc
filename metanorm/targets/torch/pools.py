"""Print statistics as calls of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, ByIndex, Dense, Ones, Window
from metanorm.ir.nodes import Count, Let, Number, Pool, Ref
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import Const, SizeOf
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Call,
    Expr,
    IfElse,
    Literal,
    Name,
    Stmt,
    Tuple,
)
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, integer, method
from metanorm.targets.torch.overlapping import OverlappingPoolPrinter, is_overlapping
from metanorm.targets.torch.statistics import PAIRS, TORCH_STATISTICS, StatisticPair, TorchStatistic


class PoolPrinter:
    """Prints the pools of one function."""

    def __init__(self, context: Context, broadcaster: Broadcaster) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.overlapping = OverlappingPoolPrinter(context)
        self.layouts = context.layouts
        self.space = context.space

    # ---- statistics

    def pool(self, let: Let, op: Pool, out: list[Stmt]) -> None:
        """Print a statistic. One call gives the mean and the variance of the same pools."""
        assert not op.ddof, "the pass `unbiased` comes before printing"
        value = self._prepared(op, out)
        dense = [(axis, m.matrix) for axis, m in op.over if isinstance(m, Dense)]
        if dense and not is_overlapping(op):
            self._dense(let, op, value, dense[0], out)
            return
        for pair in PAIRS:
            if op.statistic in (pair.first, pair.second):
                is_first = op.statistic == pair.first
                partner = self._partner(let, op, pair.second if is_first else pair.first)
                if partner is not None:
                    pair_lets = (let, partner) if is_first else (partner, let)
                    self._paired_statistics(pair, pair_lets, op, value, out)
                    return
        if op.statistic == "second" and self._about_centre(op) and not is_overlapping(op):
            value = self._centred(op, value, out)
            op = replace(op, statistic="mean", about=None)
        expr, dims = self.call(op, value, out)
        statistic = let.op.statistic if isinstance(let.op, Pool) else op.statistic
        self.bind_statistic(let, expr, dims, out, self._fallback(op.value, statistic))

    def summed(self, op: Pool, out: list[Stmt]) -> tuple[Call, Dims]:
        """The call that sums the values of a pool, and the dimensions of its result."""
        expr, dims = self.call(op, self._prepared(op, out), out)
        assert isinstance(expr, Call)
        return expr, dims

    def _fallback(self, value: Ref, statistic: str) -> str:
        """The name of a nameless statistic, such as `x_mean`."""
        stem = "" if value.startswith("%") else f"{value}_"
        return f"{stem}{TORCH_STATISTICS[statistic].variable}"

    def bind_statistic(self, let: Let, expr: Expr, dims: Dims, out: list[Stmt], name: str) -> None:
        """Assign a statistic to a variable, with a comment that names its axes."""
        variable = Name(self.ctx.name_of(let.name, name))
        out.append(Assign((variable,), expr, self._per(dims)))
        self.ctx.values[let.name] = Value(variable, dims)

    def _per(self, dims: Dims) -> str:
        axes = ", ".join(self.ctx.axis_text(d.axis) for d in dims if d.full)
        return f"per {axes}" if axes else ""

    def _about_centre(self, op: Pool) -> bool:
        """Whether a pool is a second moment about anything but zero."""
        about = self.ctx.lets[op.about].op if op.about is not None else None
        zero = isinstance(about, Number) and about.value == Const(0.0)
        return op.statistic == "second" and not zero

    def _centred(self, op: Pool, value: Value, out: list[Stmt]) -> Value:
        """`(x - about)^2`, whose mean is the second moment about a given centre."""
        assert op.about is not None
        about = self.broadcaster.spread(self.ctx.not_none(op.about), [d.axis for d in value.dims])
        unpooled = replace(op, over=tuple((axis, Ones()) for axis, _ in op.over))
        weights = self.weights(unpooled, value)
        counted_value = value.expr
        if weights:
            counted_value = Name(self.ctx.local("counted"))
            out.append(
                Assign((counted_value,), call("runtime.only_counted", value.expr, **weights))
            )
        difference = Binary("-", (counted_value, self.layouts.aligned(about, value.dims)))
        name = Name(self.ctx.local("squares"))
        out.append(Assign((name,), method(difference, "square")))
        return replace(value, expr=name)

    def _partner(self, let: Let, op: Pool, statistic: str) -> Let | None:
        """The other statistic of a pair over the same pools, if it is not printed yet."""
        partner_op = replace(op, statistic=statistic)
        for candidate in self.ctx.bodies[let.name]:
            is_pending = candidate.name not in self.ctx.values
            if candidate.op == partner_op and is_pending:
                same_placement = (
                    self.ctx.mode_placement[candidate.name] == self.ctx.mode_placement[let.name]
                )
                return candidate if same_placement else None
        return None

    def _paired_statistics(
        self,
        pair: StatisticPair,
        pair_lets: tuple[Let, Let],
        op: Pool,
        value: Value,
        out: list[Stmt],
    ) -> None:
        """Print a pair of statistics over the same pools as one call."""
        expr, dims = self._call(pair.call, op, value, out)
        names = [
            Name(self.ctx.name_of(let.name, self._fallback(op.value, statistic)))
            for let, statistic in zip(pair_lets, (pair.first, pair.second))
        ]
        out.append(Assign((names[0], names[1]), expr, self._per(dims)))
        for let, name in zip(pair_lets, names):
            self.ctx.values[let.name] = Value(name, dims)

    def call(self, op: Pool, value: Value, out: list[Stmt]) -> tuple[Expr, Dims]:
        """The call of the runtime, and the dimensions of its result."""
        return self._call(TORCH_STATISTICS[op.statistic], op, value, out)

    def _call(
        self, row: TorchStatistic, op: Pool, value: Value, out: list[Stmt]
    ) -> tuple[Expr, Dims]:
        indexed = [(axis, m) for axis, m in op.over if isinstance(m, ByIndex)]
        pooled = [axis for axis, m in op.over if isinstance(m, (Ones, ByIndex, RegularPartition))]
        split_value = self._split_into_cells(value, op.over)
        value = self.ctx.in_variable(split_value, out) if split_value is not value else value
        weights = self.weights(op, value)
        extra_arguments = [] if row.argument is None else [integer(row.argument)]
        if op.share is not None:
            extra_arguments = [self.ctx.lengths.number(op.share)]
        if is_overlapping(op):
            expr, dims = self._overlapping_pool(row.function, extra_arguments, op, value, weights)
        elif indexed:
            axis, matrix = indexed[0]
            expr, dims = self._grouped(
                row.function, extra_arguments, axis, matrix, value, pooled, weights
            )
        else:
            keep = self._keeps(op, value, pooled)
            expr = call(
                f"runtime.{row.function}",
                value.expr,
                *extra_arguments,
                dim=self.layouts.positions(value, pooled),
                keepdim=Literal(True) if keep else None,
                **weights,
            )
            dims = _result_dims(value.dims, pooled, keep)
        if row.takes_centre and op.about is not None:
            assert isinstance(expr, Call)
            expr = self._about(expr, op.about, dims)
        return (Attribute(expr, row.part) if row.part else expr), dims

    def _about(self, call_: Call, about: Ref, dims: Dims) -> Call:
        """The call with the centre of the powers as an argument."""
        centre = self.ctx.not_none(about)
        if centre.number:
            if centre.expr == Literal(0):
                return call_
            centre = Value(self.ctx.tensor(centre.expr))
        spread = self.broadcaster.spread(centre, [d.axis for d in dims])
        # A centre with the dimensions of the result may be `None`, which cannot be indexed.
        expr = spread.expr if spread.dims == dims else self.layouts.aligned(spread, dims)
        return replace(call_, keywords=(*call_.keywords, ("about", expr)))

    def _keeps(self, op: Pool, value: Value, pooled: Sequence[str]) -> bool:
        """Whether pooled dimensions stay, with length one.

        Of an axis that is split into cells, only the dimension of cells stays.
        """
        has_cells = any(isinstance(m, RegularPartition) for _, m in op.over)
        groups = any(self.layouts.variadic(d) for d in value.dims if d.axis not in pooled)
        return groups and not has_cells

    def _overlapping_pool(
        self,
        name: str,
        extra_arguments: list[Expr],
        op: Pool,
        value: Value,
        weights: dict[str, Expr | None],
    ) -> tuple[Expr, Dims]:
        """The call for overlapping pools along some dimensions, over all of other dimensions."""
        matrices, dims = self.overlapping.matrices_by_dim(value, op.over)
        pooled = [axis for axis, m in op.over if isinstance(m, (Ones, RegularPartition))]
        keep = bool(pooled) and self._keeps(op, value, pooled)
        dims = _result_dims(dims, pooled, keep)
        if op.about is not None and self._about_centre(op):
            about = self.broadcaster.spread(self.ctx.not_none(op.about), [d.axis for d in dims])
            name, extra_arguments = "second", [self.layouts.aligned(about, dims)]
        expr = call(
            f"runtime.{name}_along",
            value.expr,
            *extra_arguments,
            matrices,
            dim=self.layouts.positions(value, pooled) if pooled else None,
            keepdim=Literal(True) if keep else None,
            **weights,
        )
        return expr, dims

    def _grouped(
        self,
        name: str,
        extra_arguments: list[Expr],
        axis: str,
        matrix: ByIndex,
        value: Value,
        pooled: Sequence[str],
        weights: dict[str, Expr | None],
    ) -> tuple[Expr, Dims]:
        index = [d.axis for d in value.dims].index(axis)
        other_axes = [a for a in pooled if a != axis]
        further = self.layouts.positions(value, other_axes) if other_axes else None
        position = self.layouts.position(value.dims, index)
        function = Attribute(self.ctx.groups(matrix.index), name)
        arguments = {"dim": position, "also": further, **weights}
        keywords = tuple((key, v) for key, v in arguments.items() if v is not None)
        expr = Call(function, (value.expr, *extra_arguments), keywords)
        cells = self.space.cell_axis(axis, matrix)
        dims = tuple(
            Dim(cells) if d.axis == axis else d for d in value.dims if d.axis not in other_axes
        )
        return expr, dims

    def _prepared(self, op: Pool, out: list[Stmt]) -> Value:
        """The value in a variable, on all axes that are pooled."""
        value = self.ctx.as_number(op.value, self.ctx.not_none(op.value))
        weights = [self.ctx.lets[r].type.axes for r in (op.where, op.weight) if r is not None]
        axes = self.space.join(self.ctx.lets[op.value].type.axes, *weights)
        full = self.uncut(axes, op.over)
        if value.number:  # the same in all cells, such as their length
            value = Value(self.ctx.tensor(value.expr), may_lack_dims=True)
        value = self.broadcaster.spread(value, full)
        missing = [a for a in full if a not in {d.axis for d in value.dims if d.full}]
        by_index = any(isinstance(m, ByIndex) and axis in missing for axis, m in op.over)
        if value.may_lack_dims or by_index or (missing and (weights or is_overlapping(op))):
            value = self.broadcaster.expanded(value, full)
        # Where dimensions are counted from the end of the tensor, it is mentioned twice.
        return self.ctx.in_variable(value, out) if self._mentioned_twice(op, value) else value

    def uncut(self, axes: Sequence[str], over: Aggregation) -> list[str]:
        """The axes of a value, with cells of a pooled axis replaced by that axis."""
        pooled = {axis for axis, _ in over}
        bases = {a: self.space.base(a) for a in axes}
        return [a if a in pooled or base not in pooled else base for a, base in bases.items()]

    def _mentioned_twice(self, op: Pool, value: Value) -> bool:
        return self._about_centre(op) or any(self.layouts.variadic(d) for d in value.dims)

    def _split_into_cells(self, value: Value, over: Aggregation) -> Value:
        """The value with each pooled axis of regular cells split into cells and the rest."""
        for axis, matrix in over:
            axes = [d.axis for d in value.dims]
            if not isinstance(matrix, RegularPartition) or axis not in axes:
                continue
            index = axes.index(axis)
            if not value.dims[index].full:  # of length one, as a pool with `keepdim` leaves it
                continue
            cells, rest_dim = Dim(self.space.cell_axis(axis, matrix)), Dim(axis)
            parts = (cells, rest_dim) if matrix.is_consecutive else (rest_dim, cells)
            part_sizes = matrix.part_sizes(SizeOf(axis))
            sizes = tuple(self.ctx.lengths.part(size, axis) for size in part_sizes)
            position = self.layouts.position(value.dims, index)
            expr = call("torch.unflatten", value.expr, position, Tuple(sizes))
            value = replace(
                value, expr=expr, dims=(*value.dims[:index], *parts, *value.dims[index + 1 :])
            )
        return value

    def weights(self, op: Pool | Count, value: Value) -> dict[str, Expr | None]:
        """The keyword arguments for mask and weights, broadcast against the split value."""
        axes = [axis for axis, _ in op.over] + [d.axis for d in value.dims]
        # Zeros beyond the border count beside no mask alone: one that is left out is still there.
        pads = any(isinstance(m, Window) and m.edge == "zero" for _, m in op.over)
        weights: dict[str, Expr | None] = {}
        for keyword, ref in (("where", op.where), ("weight", op.weight)):
            if ref is not None:
                weight = self.ctx.not_none(ref) if pads else self.ctx.values[ref]
                split_weight = self._split_into_cells(
                    self.broadcaster.spread(weight, axes), op.over
                )
                expr = self.layouts.aligned(split_weight, value.dims)
                if weight.number:
                    expr = self.ctx.tensor(expr)
                if weight.optional and not isinstance(expr, Name):
                    missing = Binary("is", (weight.expr, Literal(None)))
                    expr = IfElse(missing, Literal(None), expr)
                weights[keyword] = expr
        return weights

    # ---- given matrices

    def _dense(
        self, let: Let, op: Pool, value: Value, matrix_on_axis: tuple[str, str], out: list[Stmt]
    ) -> None:
        axis, matrix = matrix_on_axis
        index = [d.axis for d in value.dims].index(axis)
        position = self.layouts.position(value.dims, index)
        name = "rows_mean" if op.statistic == "mean" else "rows_var"
        rows = self.ctx.rows(matrix, axis)
        expr = call(f"runtime.{name}", value.expr, rows, dim=position)
        self.bind_statistic(let, expr, value.dims, out, self._fallback(op.value, op.statistic))


def _result_dims(dims: Dims, pooled: Sequence[str], keep: bool) -> Dims:
    """The dimensions of a result; pooled ones have length one where they are kept."""
    return tuple(
        Dim(d.axis, d.full and d.axis not in pooled) for d in dims if keep or d.axis not in pooled
    )
