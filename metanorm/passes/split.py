"""Blocks become axes: where an axis is cut in one way only, it is split once and for all.

`C: blocks(g)` then is `ones` over the inner part of `C = (block, within)`: the same
pooling, and nothing has to be spread back over the axis. GroupNorm becomes layer
norm over two axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metanorm.ir.aggregation import (
    REGULAR,
    Aggregation,
    Blocks,
    Chunks,
    Grouping,
    Interleave,
    Ones,
)
from metanorm.ir.nodes import (
    Axis,
    AxisMap,
    Count,
    Divisible,
    Expand,
    Let,
    Lookup,
    Op,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Apply, Scalar, SizeOf
from metanorm.ir.unused_splits import is_single_part_in_evaluation, is_unused_in_evaluation
from metanorm.passes.builder import Builder


def split(program: Program) -> Program:
    """The program with every axis split that has a single regular partition."""
    for axis, matrix in _splittable(program).items():
        program = _split(program, axis, matrix)
    return program


def _splittable(program: Program) -> dict[str, Grouping]:
    matrices: dict[str, set[Grouping]] = {}
    blocked: set[str] = set()
    space = program.index.space
    for let in program.body:
        if isinstance(let.op, (Pool, Count)):
            for axis, matrix in let.op.over:
                matrices.setdefault(axis, set()).add(matrix)
        blocked |= {space.base(axis) for axis in _needs_whole(let.op)}
    for check in program.checks:  # else evaluation would cut an axis of any length, too
        if isinstance(check, Divisible) and is_unused_in_evaluation(check, program):
            blocked |= set() if is_single_part_in_evaluation(check, program) else {check.axis}
    found: dict[str, Grouping] = {}
    for known in program.axes:
        cuts = matrices.get(known.name, set()) - {Ones()}
        simple = not (known.parts or known.variadic or known.cells_of)
        simple = simple and known.name not in blocked
        if simple and len(cuts) == 1 and isinstance(cut := next(iter(cuts)), REGULAR):
            found[known.name] = cut
    return found


def _needs_whole(op: Op) -> set[str]:
    """The axes that an operation uses other than by pooling or mapping."""
    match op:
        case Position(axis) | AxisMap(axis=axis) | Lookup(axis=axis):
            return {axis}
        case Rename(_, old, new):
            return {old, new}
        case Expand(_, axes):
            return set(axes)
        case Repeat():
            return {axis for let in op.body for axis in _of_body(let)}
        case _:
            return set()


def _of_body(let: Let) -> Iterator[str]:
    """The axes of a binding inside a loop, whose bindings stay as they are."""
    yield from (*_needs_whole(let.op), *let.type.axes)
    if isinstance(let.op, (Pool, Count)):
        yield from (axis for axis, _ in let.op.over)


def _split(program: Program, axis: str, matrix: Grouping) -> Program:
    outer, inner, pooled = _parts(axis, matrix)
    axes: list[Axis] = []
    for known in program.axes:
        if known.cells_of is not None and known.cells_of[0] == axis:
            continue
        axes.append(known if known.name != axis else replace(known, parts=(outer.name, inner.name)))
        axes += [outer, inner] if known.name == axis else []
    builder = Builder(replace(program, axes=tuple(axes)))
    for let in program.body:
        builder.copy(let, _repooled(let, axis, matrix, (outer.name, inner.name), pooled, builder))
    outputs = [
        (name, _whole(ref, {outer.name, inner.name}, builder)) for name, ref in program.outputs
    ]
    return builder.finish(outputs)


def _whole(output: Ref, parts: set[str], builder: Builder) -> Ref:
    """An output with all of the axis: what is one for each cell is so for all of its elements."""
    ref = builder.value_map.get(output, output)
    own = parts.intersection(builder.types[ref].axes)
    if not own or own == parts:
        return ref
    return builder.emit(Expand(ref, builder.space.ordered(parts - own)))


def _parts(axis: str, matrix: Grouping) -> tuple[Axis, Axis, str]:
    """Outer and inner part, and which of them is pooled."""

    def rest(size: Scalar) -> Scalar:
        return Apply("floordiv", (SizeOf(axis), size))

    first, second = f"{axis}.outer", f"{axis}.inner"
    match matrix:
        case Blocks(count):
            return Axis(first, size=count), Axis(second, size=rest(count)), second
        case Chunks(size):
            return Axis(first, size=rest(size)), Axis(second, size=size), second
        case Interleave(count):
            return Axis(first, size=rest(count)), Axis(second, size=count), first
        case _:
            raise TypeError(f"{matrix} does not split an axis")


def _repooled(
    let: Let, axis: str, cut: Grouping, parts: tuple[str, str], pooled: str, builder: Builder
) -> Op | None:
    """A pool over the parts instead of over the axis."""
    if not isinstance(let.op, (Pool, Count)):
        return None
    over: list[tuple[str, Grouping]] = []
    kept = parts[0] if pooled == parts[1] else parts[1]
    for name, matrix in let.op.over:
        if name == axis:
            over += [(pooled, Ones())] if matrix == cut else [(part, Ones()) for part in parts]
        elif name not in builder.space:  # the cells of the cut: the part that is not pooled
            over.append((kept, Ones()))
        else:
            over.append((name, matrix))
    moved = _moved(let.op, builder)
    if isinstance(moved, Pool):
        moved = _repeated(moved, {name for name, _ in over}.intersection(parts), builder)
    return replace(moved, over=_ordered(over, builder))


def _repeated(pool: Pool, pooled: set[str], builder: Builder) -> Pool:
    """The pool, of a value that has the pooled parts: cells count once for each element in them."""
    operands = [ref for ref in (pool.value, pool.where, pool.weight) if ref is not None]
    present = builder.space.join(*(builder.types[ref].axes for ref in operands))
    missing = builder.space.ordered(pooled.difference(present))
    if not missing:
        return pool
    return replace(pool, value=builder.emit(Expand(pool.value, missing)))


def _moved(op: Pool | Count, builder: Builder) -> Pool | Count:
    moved = map_operands(op, builder.value_map)
    assert isinstance(moved, (Pool, Count))
    return moved


def _ordered(over: list[tuple[str, Grouping]], builder: Builder) -> Aggregation:
    order = builder.space.ordered(name for name, _ in over)
    return tuple(sorted(over, key=lambda pair: order.index(pair[0])))
