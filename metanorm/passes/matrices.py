"""Pools by given matrices become weighted pools over a copy of their axis.

Row n of a matrix says how much each position counts for position n. Once those positions have an
axis of their own, the mean of v over N: U is that of `v[N -> N.U]` over all of N.U with the entry
`U[N, N.U]` as weight. The matrix is then a value like any other: it can be transposed by pooling
the other axis, and it has a gradient. Whoever derives or prints loops needs no case for it.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Dense, Grouping, Ones
from metanorm.ir.nodes import (
    Axis,
    Count,
    Detach,
    Input,
    InputDecl,
    Param,
    Pool,
    Program,
    Ref,
    Rename,
)
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import SizeOf
from metanorm.passes.builder import Builder

Entries = dict[str, Ref]


def matrices(program: Program) -> Program:
    """The program in which narrow values are pooled by weights instead of given matrices.

    A wide value would become as large as all pairs of its positions, so it keeps the matrix.
    """
    found = _used(program)
    if not found:
        return program
    builder = Builder(_declared(program, found))
    frame = {leaf for dim in program.inputs[0].dims for leaf in builder.space.leaves(dim)}
    entries = {name: _entries(builder, name, program) for name in found}

    def wide(ref: Ref) -> bool:
        return frame <= set(builder.types[ref].axes)

    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Count) or (isinstance(op, Pool) and not wide(op.value)):
            op = _weighted(builder, op, entries)
        builder.copy(let, op)
    return builder.finish()


def _dense(over: Aggregation) -> list[tuple[str, Dense]]:
    return [(axis, m) for axis, m in over if isinstance(m, Dense)]


def _used(program: Program) -> dict[str, str]:
    """The matrices that pool along a dimension of some tensor, and along which."""
    square = {d.name for d in program.declarations if len(d.dims) == 2 and len({*d.dims}) == 1}
    square -= {i.name for i in program.inputs if not i.required}
    square |= {a.name for a in program.arguments if a.type == "matrix"}
    dims = {dim for d in program.declarations for dim in d.dims}
    single = {a.name for a in program.axes if a.name in dims and not a.variadic}
    return {
        matrix.matrix: axis
        for let in program.body
        if isinstance(let.op, (Pool, Count))
        for axis, matrix in _dense(let.op.over)
        if matrix.matrix in square and axis in single
    }


def _column(axis: str, matrix: str) -> str:
    """The axis of the positions that count for one of `axis`."""
    return f"{axis}.{matrix}"


def _declared(program: Program, found: dict[str, str]) -> Program:
    """The program with the copies of axes, and matrices as tensors of two axes."""
    axes: list[Axis] = []
    for known in program.axes:
        axes.append(known)
        axes += [
            Axis(_column(axis, name), known.variadic, SizeOf(axis))
            for name, axis in found.items()
            if axis == known.name
        ]
    dims = {name: (axis, _column(axis, name)) for name, axis in found.items()}
    given = {a.name for a in program.arguments if a.type == "matrix"}
    return replace(
        program,
        axes=tuple(axes),
        inputs=(
            *(replace(i, dims=dims.get(i.name, i.dims)) for i in program.inputs),
            *(InputDecl(name, "matrix", dims[name]) for name in found if name in given),
        ),
        params=tuple(replace(p, dims=dims.get(p.name, p.dims)) for p in program.params),
    )


def _entries(b: Builder, name: str, program: Program) -> Ref:
    """The entries of a matrix; one that the constructor was given is not differentiated by."""
    if any(p.name == name for p in program.params):
        return b.emit(Param(name), name)
    entries = b.emit(Input(name), name)
    given = any(a.name == name for a in program.arguments)
    return b.emit(Detach(entries)) if given else entries


def _weighted(b: Builder, op: Pool | Count, entries: Entries) -> Pool | Count:
    """The pool over copies of the axes that are mixed, each with its matrix as a weight."""
    over: list[tuple[str, Grouping]] = []
    for axis, matrix in op.over:
        if not (isinstance(matrix, Dense) and matrix.matrix in entries):
            over.append((axis, matrix))
            continue
        column = _column(axis, matrix.matrix)
        over.append((column, Ones()))
        where, weight = (_moved(b, ref, axis, column) for ref in (op.where, op.weight))
        own = entries[matrix.matrix]
        weight = own if weight is None else b.map("mul", weight, own)
        op = replace(op, where=where, weight=weight)
        if isinstance(op, Pool):
            op = replace(op, value=_moved(b, op.value, axis, column) or op.value)
    return replace(op, over=tuple(over))


def _moved(b: Builder, ref: Ref | None, axis: str, column: str) -> Ref | None:
    """A value on the copy of an axis."""
    if ref is None or axis not in b.types[ref].axes:
        return ref
    return b.emit(Rename(ref, axis, column))
