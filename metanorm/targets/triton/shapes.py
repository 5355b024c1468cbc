"""Choose the tile shape of a kernel: the axes of its programs, of the rows and of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Buffer, Input, Param
from metanorm.ir.operands import operands
from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Nest
from metanorm.nest.statements import is_sparsestmax
from metanorm.plan.sweeps import Reduction
from metanorm.targets.triton.context import KernelContext

Coverage = Literal["part", "whole"]


@dataclass(frozen=True)
class TileShape:
    """How the programs of a kernel cover the data.

    A tile has some rows, counted over all axes in `rows`, by some columns of the axis along which
    memory is contiguous. A program has one position along the `outer` axes; if it `gathers`, it
    loops over several of them.

    `down` says how a program covers rows, `across` how it covers columns. With `part` it has a
    chunk of rows, over which it loops, or a block of columns. With `whole` each tile has all of
    them. `grouped` rows are those of one group. The `cell` axes are the last ones of the columns: a
    block of columns has whole cells, such as channel groups side by side.
    """

    outer: tuple[AxisGroup, ...]
    rows: tuple[AxisGroup, ...]
    columns: AxisGroup
    down: Coverage = "part"
    across: Coverage = "part"
    grouped: bool = False
    gathers: bool = False
    cell: AxisGroup = ()

    @property
    def has_row_chunks(self) -> bool:
        """Whether a program loops over a chunk of rows once, for all sweeps."""
        return bool(self.rows) and self.down == "part"

    @property
    def row_axes(self) -> AxisGroup:
        """All axes of the rows."""
        return tuple(leaf for group in self.rows for leaf in group)

    @property
    def outer_axes(self) -> AxisGroup:
        """All outer axes."""
        return tuple(leaf for group in self.outer for leaf in group)


def unsupported_in_triton(nest: Nest) -> Iterator[str]:
    """The reasons why Triton alone has no kernel for a nest."""
    ops = nest.program.index.ops
    lines = {ref for op in ops.values() if is_sparsestmax(op) for ref in operands(op)}
    tensors = (op for op in map(ops.get, lines) if isinstance(op, (Input, Param, Buffer)))
    if any(nest.array[tensor.name].optional for tensor in tensors):
        yield "sparsestmax of a tensor that may be missing"


def sweep_shape(context: KernelContext, reductions: Sequence[Reduction]) -> TileShape:
    """The shape for one sweep over data of any size. Rows are the pooled axes, or else all axes."""
    extra_axes = set(context.nest.extra_axes)
    if all(extra_axes.isdisjoint(context.lets[r.value].type.axes) for r in reductions):
        omitted_axes = {context.group_axis, *extra_axes}
    else:
        omitted_axes = {context.group_axis}
    groups = [g for g in context.loops if not omitted_axes & {*g}]
    columns, other_loops = groups[-1], groups[:-1]
    if any(isinstance(m, ByIndex) for r in reductions for _, m in r.over):
        grouped = (context.nest.grouped_axis,)
        assert context.group_axis is not None
        outer = ((context.group_axis,), *(g for g in other_loops if g != grouped))
        return TileShape(outer, (grouped,), columns, grouped=True)  # type: ignore[arg-type]
    tiled = [r for r in reductions if set(columns) <= set(r.cells)]
    tiled = tiled or [r for r in reductions if r.row.rule == "moments"] or list(reductions)
    rows = [g for g in other_loops if tiled and all(not set(g) <= set(r.cells) for r in tiled)]
    rows = rows or other_loops
    return TileShape(tuple(g for g in other_loops if g not in rows), tuple(rows), columns)


def island_shapes(context: KernelContext) -> Iterator[TileShape]:
    """The shapes in which a tile has whole islands, the best one first."""
    shape = _tile_shape(context)
    if shape is None:
        return
    outer = set() if shape.has_row_chunks else set(shape.outer_axes)
    if outer and any(r.terminal and not outer & set(r.cells) for r in context.reductions):
        yield replace(shape, gathers=True)
    yield shape


def _tile_shape(context: KernelContext) -> TileShape | None:
    """The shape in which each tile has whole islands."""
    if context.group_axis is not None:
        return None
    islands = set(context.nest.islands)
    columns, other_loops = context.loops[-1], context.loops[:-1]
    inside_islands = tuple(g for g in other_loops if not set(g) <= islands)
    outer = tuple(g for g in other_loops if g not in inside_islands)
    if islands & set(columns):
        cell = tuple(leaf for leaf in columns if leaf not in islands)
        is_suffix = columns[len(columns) - len(cell) :] == cell
        return (
            TileShape(outer, inside_islands, columns, "whole", cell=cell)
            if inside_islands and is_suffix
            else None
        )
    if inside_islands:
        return TileShape(outer, inside_islands, columns, "whole", "whole")
    outer = _rows_set_apart(context, other_loops)
    return TileShape(
        outer, tuple(g for g in other_loops if g not in outer), columns, "part", "whole"
    )


def _rows_set_apart(context: KernelContext, rows: Sequence[AxisGroup]) -> tuple[AxisGroup, ...]:
    """The row axes that must become outer axes, since some statistics pool only the other ones.
    A program then accumulates only elements of the same cells."""
    partly = [r for r in context.reductions if any(not set(g) <= set(r.cells) for g in rows)]
    kept_apart = tuple(g for g in rows if any(set(g) <= set(r.cells) for r in partly))
    return kept_apart if len(kept_apart) < len(rows) else ()
