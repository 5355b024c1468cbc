"""Print overlapping pools, one per position: windows, pasts, neighbours and given matrices."""

from __future__ import annotations

from metanorm.ir.aggregation import (
    OVERLAPPING,
    Aggregation,
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    Window,
)
from metanorm.ir.nodes import Count, Pool
from metanorm.targets.python.pyir import Dict, Expr, Literal, Name
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, method

LOCAL_NAMES: dict[type[Grouping], str] = {
    Window: "window",
    Causal: "past",
    Neighbours: "neighbours",
    Dense: "rows",
    ByIndex: "members",
}


def is_overlapping(op: Pool | Count) -> bool:
    """Whether a pool overlaps: it has a result per position of an axis, so that the axis stays."""
    if any(isinstance(matrix, OVERLAPPING) for _, matrix in op.over):
        return True
    if not any(isinstance(matrix, Dense) for _, matrix in op.over):
        return False
    is_unweighted = op.where is None and op.weight is None and len(op.over) == 1
    return not (is_unweighted and isinstance(op, Pool) and op.statistic in ("mean", "var"))


class OverlappingPoolPrinter:
    """Prints the calls of `metanorm.runtime.overlapping` of one function."""

    def __init__(self, context: Context) -> None:
        self.ctx = context
        self.layouts = context.layouts

    def matrices_by_dim(self, value: Value, over: Aggregation) -> tuple[Expr, Dims]:
        """The argument `{2: window}` of the call, and the dimensions of its result."""
        matrices = {axis: m for axis, m in over if isinstance(m, (*OVERLAPPING, Dense, ByIndex))}
        pairs: list[tuple[Expr, Expr]] = []
        dims: list[Dim] = []
        for index, dim in enumerate(value.dims):
            matrix = matrices.get(dim.axis)
            if matrix is None:
                dims.append(dim)
                continue
            position = self.layouts.position(value.dims, index)
            pairs.append((position, self._local(matrix, dim.axis)))
            cells = isinstance(matrix, ByIndex)
            dims.append(Dim(self.ctx.space.cell_axis(dim.axis, matrix)) if cells else dim)
        return Dict(tuple(pairs)), tuple(dims)

    def sizes(self, axis: str, matrix: Grouping) -> Value:
        """The number of elements of each pool, on the axis of the pools."""
        if isinstance(matrix, ByIndex):
            sizes = method(self.ctx.groups(matrix.index), "sizes", Name(self.ctx.first))
            return Value(sizes, (Dim(self.ctx.space.cell_axis(axis, matrix)),))
        length = self.ctx.lengths.of(axis)
        sizes = method(self._local(matrix, axis), "sizes", Name(self.ctx.first), length)
        return Value(sizes, (Dim(axis),))

    def _local(self, matrix: Grouping, axis: str) -> Expr:
        """The local variable that holds a matrix. The prologue of the function assigns it."""
        return self.ctx.set_up(LOCAL_NAMES[type(matrix)], self._matrix_expr(matrix, axis))

    def _matrix_expr(self, matrix: Grouping, axis: str) -> Expr:
        number, length = self.ctx.lengths.number, self.ctx.lengths.of
        match matrix:
            case Window(width, edge, within):
                window = call("runtime.Window", number(width), edge=Literal(edge))
                return self._within(window, within)
            case Causal(width, within):
                past = call("runtime.Causal", *([] if width is None else [number(width)]))
                return self._within(past, within)
            case Neighbours(edges, loop):
                with_self = Literal(True) if loop else None
                return call("runtime.Neighbours", Name(edges), length(axis), loop=with_self)
            case Dense(name):
                arguments = Name(name), Literal(name), Name(self.ctx.first), length(axis)
                return call("runtime.Rows", *arguments)
            case ByIndex(index):
                return call("runtime.Members", self.ctx.groups(index))
            case _:
                raise TypeError(f"{matrix} has no pools of positions")

    def _within(self, window: Expr, offsets: str | None) -> Expr:
        """A window that stays within segments, if there are any."""
        return (
            window if offsets is None else call("runtime.within", window, self.ctx.groups(offsets))
        )
