"""Split axes at their blocks: an axis with one regular partition becomes two axes.

`C: blocks(g)` then is `ones` over the inner part of `C = (block, within)`: the same pooling, and no
result has to be spread back over the axis. GroupNorm becomes layer norm over two axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Grouping, Ones
from metanorm.ir.nodes import (
    Axis,
    AxisMap,
    Concat,
    Count,
    Expand,
    Let,
    Lookup,
    Op,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Divisible, Program
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import SizeOf
from metanorm.ir.space import Space, cell_name
from metanorm.ir.unused_splits import is_single_part_in_evaluation, is_unused_in_evaluation
from metanorm.passes.builder import Builder


def split(program: Program) -> Program:
    """The program with every axis split that has exactly one regular partition."""
    for axis, partition in _splittable(program).items():
        program = _split(program, axis, partition)
    return program


def _splittable(program: Program) -> dict[str, RegularPartition]:
    groupings: dict[str, set[Grouping]] = {}
    blocked: set[str] = set()
    space = program.index.space
    for let in program.body:
        if isinstance(let.op, (Pool, Count)):
            for axis, grouping in let.op.over:
                groupings.setdefault(axis, set()).add(grouping)
        blocked |= {space.base(axis) for axis in _needs_whole(let.op, space)}
    for check in program.checks:  # else evaluation would split an axis of any length
        if isinstance(check, Divisible) and is_unused_in_evaluation(check, program):
            blocked |= set() if is_single_part_in_evaluation(check, program) else {check.axis}
    partition_by_axis: dict[str, RegularPartition] = {}
    for declared in program.axes:
        partitions = groupings.get(declared.name, set()) - {Ones()}
        is_single = not (declared.parts or declared.variadic or declared.cells_of)
        is_single = is_single and declared.name not in blocked
        if (
            is_single
            and len(partitions) == 1
            and isinstance(partition := next(iter(partitions)), RegularPartition)
        ):
            partition_by_axis[declared.name] = partition
    return partition_by_axis


def _needs_whole(op: Op, space: Space) -> set[str]:
    """The axes that an operation needs unsplit: it neither pools nor maps along them."""
    match op:
        case Position(axis) | AxisMap(axis=axis) | Recurrence(axis=axis) | Lookup(axis=axis):
            return {axis}
        case Piece(_, piece):
            piece_of = space[piece].piece_of
            return {piece} | ({piece_of[0]} if piece_of is not None else set())
        case Concat(_, pieces, axis):
            return {*pieces, axis}
        case Rename(_, old, new):
            return {old, new}
        case Expand(_, axes):
            return set(axes)
        case Repeat():
            return {axis for let in op.body for axis in _axes_in_loop(let, space)}
        case _:
            return set()


def _axes_in_loop(let: Let, space: Space) -> Iterator[str]:
    """The axes of a binding in a loop. This pass does not rewrite loops."""
    yield from (*_needs_whole(let.op, space), *let.type.axes)
    if isinstance(let.op, (Pool, Count)):
        yield from (axis for axis, _ in let.op.over)


def _split(program: Program, axis: str, partition: RegularPartition) -> Program:
    outer, inner, pooled = _parts(axis, partition)
    axes: list[Axis] = []
    for declared in program.axes:
        if declared.cells_of is not None and declared.cells_of[0] == axis:
            continue
        axes.append(
            declared if declared.name != axis else replace(declared, parts=(outer.name, inner.name))
        )
        axes += [outer, inner] if declared.name == axis else []
    cells = cell_name(axis, partition)
    in_cells = {name for name, dims in program.output_dims if cells in dims}
    kept = inner.name if pooled == outer.name else outer.name
    program = _with_part_for_cells(replace(program, axes=tuple(axes)), cells, kept)
    builder = Builder(program)
    for let in program.body:
        builder.copy(
            let, _repooled(let, axis, partition, (outer.name, inner.name), pooled, builder)
        )
    both = {outer.name, inner.name}
    outputs = []
    for name, ref in program.outputs:
        varies = not {axis, cells}.isdisjoint(program.index.types[ref].axes)
        parts = {kept} if name in in_cells else both
        outputs.append((name, _with_parts(ref, parts if varies else set(), builder)))
    return builder.finish(outputs)


def _with_part_for_cells(program: Program, cells: str, part: str) -> Program:
    """The program with `part` in the place of the axis `cells`, in outputs that are returned per
    cell, and in their gradients, which arrive so."""

    def renamed(dims: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part if dim == cells else dim for dim in dims)

    return replace(
        program,
        inputs=tuple(replace(decl, dims=renamed(decl.dims)) for decl in program.inputs),
        output_dims=tuple((name, renamed(dims)) for name, dims in program.output_dims),
    )


def _with_parts(output: Ref, parts: set[str], builder: Builder) -> Ref:
    """An output with these parts of the axis. A value of cells is repeated within each, and one
    that is the same for all cells, such as a count, for each cell."""
    ref = builder.value_map.get(output, output)
    missing = builder.space.ordered(parts.difference(builder.types[ref].axes))
    return builder.emit(Expand(ref, missing)) if missing else ref


def _parts(axis: str, partition: RegularPartition) -> tuple[Axis, Axis, str]:
    """The outer part, the inner part, and the name of the one that pools run over."""

    first, second = f"{axis}.outer", f"{axis}.inner"
    outer_size, inner_size = partition.part_sizes(SizeOf(axis))
    pooled = second if partition.is_consecutive else first
    return Axis(first, size=outer_size), Axis(second, size=inner_size), pooled


def _repooled(
    let: Let,
    axis: str,
    partition: RegularPartition,
    parts: tuple[str, str],
    pooled: str,
    builder: Builder,
) -> Op | None:
    """A pool over the parts instead of the axis; `None` for other operations."""
    if not isinstance(let.op, (Pool, Count)):
        return None
    over: list[tuple[str, Grouping]] = []
    outer_part = parts[0] if pooled == parts[1] else parts[1]
    for name, grouping in let.op.over:
        if name == axis:
            over += (
                [(pooled, Ones())] if grouping == partition else [(part, Ones()) for part in parts]
            )
        elif name not in builder.space:  # the cells of the cut: the part that is not pooled
            over.append((outer_part, Ones()))
        else:
            over.append((name, grouping))
    pool = _with_new_operands(let.op, builder)
    if isinstance(pool, Pool):
        pool = _expanded(pool, {name for name, _ in over}.intersection(parts), builder)
    return replace(pool, over=_ordered(over, builder))


def _expanded(pool: Pool, pooled_parts: set[str], builder: Builder) -> Pool:
    """The pool with its value expanded to the pooled parts: a cell counts once per element."""
    operands = [ref for ref in (pool.value, pool.where, pool.weight) if ref is not None]
    present = builder.space.join(*(builder.types[ref].axes for ref in operands))
    missing = builder.space.ordered(pooled_parts.difference(present))
    if not missing:
        return pool
    return replace(pool, value=builder.emit(Expand(pool.value, missing)))


def _with_new_operands(op: Pool | Count, builder: Builder) -> Pool | Count:
    moved = map_operands(op, builder.value_map)
    assert isinstance(moved, (Pool, Count))
    return moved


def _ordered(over: list[tuple[str, Grouping]], builder: Builder) -> Aggregation:
    order = builder.space.ordered(name for name, _ in over)
    return tuple(sorted(over, key=lambda pair: order.index(pair[0])))
