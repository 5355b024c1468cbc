"""Pools that each position has for itself: windows, the past, neighbours, given matrices."""

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

LOCALS: dict[type[Grouping], str] = {  # what the local that holds a matrix is called
    Window: "window",
    Causal: "past",
    Neighbours: "neighbours",
    Dense: "rows",
    ByIndex: "members",
}


def is_along(op: Pool | Count) -> bool:
    """Whether a pool is one by matrices along dimensions, which stay."""
    if any(isinstance(matrix, OVERLAPPING) for _, matrix in op.over):
        return True
    if not any(isinstance(matrix, Dense) for _, matrix in op.over):
        return False
    plain = op.where is None and op.weight is None and len(op.over) == 1
    return not (plain and isinstance(op, Pool) and op.statistic in ("mean", "var"))


class AlongPrinter:
    """Prints the calls of `metanorm.runtime.along` of one function."""

    def __init__(self, context: Context) -> None:
        self.c = context
        self.layouts = context.layouts

    def along(self, value: Value, over: Aggregation) -> tuple[Expr, Dims]:
        """`{2: window}`, and the dimensions of the value after such pools."""
        matrices = {axis: m for axis, m in over if isinstance(m, (*OVERLAPPING, Dense, ByIndex))}
        pairs: list[tuple[Expr, Expr]] = []
        dims: list[Dim] = []
        for place, dim in enumerate(value.dims):
            matrix = matrices.get(dim.axis)
            if matrix is None:
                dims.append(dim)
                continue
            at = self.layouts.position(value.dims, place)
            pairs.append((at, self._local(matrix, dim.axis)))
            cells = isinstance(matrix, ByIndex)
            dims.append(Dim(self.c.space.cells(dim.axis, matrix)) if cells else dim)
        return Dict(tuple(pairs)), tuple(dims)

    def sizes(self, axis: str, matrix: Grouping) -> Value:
        """How many elements each pool has, on the axis of the pools."""
        if isinstance(matrix, ByIndex):
            sizes = method(self.c.groups(matrix.index), "sizes", Name(self.c.first))
            return Value(sizes, (Dim(self.c.space.cells(axis, matrix)),))
        length = self.c.lengths.of(axis)
        sizes = method(self._local(matrix, axis), "sizes", Name(self.c.first), length)
        return Value(sizes, (Dim(axis),))

    def _local(self, matrix: Grouping, axis: str) -> Expr:
        """The local that holds a matrix, which the function sets up first."""
        return self.c.set_up(LOCALS[type(matrix)], self._made(matrix, axis))

    def _made(self, matrix: Grouping, axis: str) -> Expr:
        number, length = self.c.lengths.number, self.c.lengths.of
        match matrix:
            case Window(width, edge):
                return call("runtime.Window", number(width), edge=Literal(edge))
            case Causal(width):
                return call("runtime.Causal", *([] if width is None else [number(width)]))
            case Neighbours(edges, loop):
                own = Literal(True) if loop else None
                return call("runtime.Neighbours", Name(edges), length(axis), loop=own)
            case Dense(name):
                given = Name(name), Literal(name), Name(self.c.first), length(axis)
                return call("runtime.Rows", *given)
            case ByIndex(index):
                return call("runtime.Members", self.c.groups(index))
            case _:
                raise TypeError(f"{matrix} has no pools of positions")
