"""Print the measuring of a tensor's own moments, for which `metanorm/moments.h` has functions."""

from __future__ import annotations

from metanorm.ir.nodes import Input
from metanorm.nest.nest import Block
from metanorm.targets.native.cir import Apply, Expr, ExprStmt, Infix, Name, address
from metanorm.targets.native.members import accumulator, shared
from metanorm.targets.native.narrow import NarrowPrinter
from metanorm.targets.native.tiling import LENGTH, Tiling


def plain_moments(tiling: Tiling, narrow: NarrowPrinter, sweep: Block) -> ExprStmt | None:
    """The call that measures a tile, if all that a sweep does is to take the moments of a tensor as
    it is, in tiles of rows that are a stride apart."""
    context = tiling.ctx
    if len(sweep.measures) != 1 or sweep.writes or sweep.scans or len(tiling.rows) > 1:
        return None
    (number,) = sweep.measures
    reduction = context.nest.reductions[number]
    op = context.program.index.ops[reduction.value]
    is_plain = reduction.row.rule == "moments" and not reduction.is_weighted
    if not is_plain or not isinstance(op, Input) or op.name not in sweep.reads:
        return None
    if tiling.is_grouped or tiling.extra_axes(reduction):
        return None
    place: tuple[Expr, ...] = (
        address(accumulator(number)),
        narrow.cell(address(accumulator(number)), reduction, tiling.at),
        address(shared(context.name(op.name))),
        tiling.tile_point(),
    )
    if not tiling.rows:
        return ExprStmt(Apply("row_moments", (*place, LENGTH)))
    function = "column_moments" if tiling.by_column(reduction) else "tile_moments"
    rows = Infix("-", Name("end"), Name("begin"))
    axis = Name(context.axis(tiling.rows[0]))
    return ExprStmt(Apply(function, (*place, axis, rows, LENGTH)))
