"""Rewrite pools by given matrices as weighted pools over a copy of their axis.

Row n of a matrix holds the weights of all positions for position n. The mean of v over N: U is the
mean of `v[N -> N.U]` over all of the copied axis N.U, with the entries `U[N, N.U]` as weights. The
matrix is then a value like any other: a pool over its other axis is its transpose, and it has a
gradient. Neither the derivation of gradients nor the printers of loops need a case for it.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Dense, Grouping, Ones
from metanorm.ir.nodes import Axis, Count, Detach, Input, Param, Pool, Ref, Rename
from metanorm.ir.program import InputDecl, Program
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import SizeOf
from metanorm.passes.builder import Builder

Entries = dict[str, Ref]


def matrices(program: Program) -> Program:
    """The program in which weights replace the given matrices of narrow pools.

    A wide value would become as large as all pairs of its positions: its pools keep the matrix.
    """
    axis_by_matrix = _rewritable_matrices(program)
    if not axis_by_matrix:
        return program
    builder = Builder(_with_columns(program, axis_by_matrix))
    input_axes = {leaf for dim in program.inputs[0].dims for leaf in builder.space.leaves(dim)}
    entries = {name: _entries(builder, name, program) for name in axis_by_matrix}

    def is_wide(ref: Ref) -> bool:
        return input_axes <= set(builder.types[ref].axes)

    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Count) or (isinstance(op, Pool) and not is_wide(op.value)):
            op = _as_weighted_pool(builder, op, entries)
        builder.copy(let, op)
    return builder.finish()


def _given_matrices(over: Aggregation) -> list[tuple[str, Dense]]:
    return [(axis, m) for axis, m in over if isinstance(m, Dense)]


def _rewritable_matrices(program: Program) -> dict[str, str]:
    """The axis of each matrix that pools along a dimension of some tensor."""
    square_names = {
        d.name for d in program.declarations if len(d.dims) == 2 and len({*d.dims}) == 1
    }
    square_names -= {i.name for i in program.inputs if not i.required}
    square_names |= {a.name for a in program.arguments if a.type == "matrix"}
    tensor_dims = {dim for d in program.declarations for dim in d.dims}
    single_axes = {a.name for a in program.axes if a.name in tensor_dims and not a.variadic}
    return {
        matrix.matrix: axis
        for let in program.body
        if isinstance(let.op, (Pool, Count))
        for axis, matrix in _given_matrices(let.op.over)
        if matrix.matrix in square_names and axis in single_axes
    }


def _column_axis(axis: str, matrix: str) -> str:
    """The name of the copy of `axis` that runs along the rows of a matrix."""
    return f"{axis}.{matrix}"


def _with_columns(program: Program, axis_by_matrix: dict[str, str]) -> Program:
    """The program with the copied axes, and with matrices as tensors of two axes."""
    axes: list[Axis] = []
    for declared in program.axes:
        axes.append(declared)
        axes += [
            Axis(_column_axis(axis, name), declared.variadic, SizeOf(axis))
            for name, axis in axis_by_matrix.items()
            if axis == declared.name
        ]
    dims = {name: (axis, _column_axis(axis, name)) for name, axis in axis_by_matrix.items()}
    arguments = {a.name for a in program.arguments if a.type == "matrix"}
    return replace(
        program,
        axes=tuple(axes),
        inputs=(
            *(replace(i, dims=dims.get(i.name, i.dims)) for i in program.inputs),
            *(
                InputDecl(name, "matrix", dims[name])
                for name in axis_by_matrix
                if name in arguments
            ),
        ),
        params=tuple(replace(p, dims=dims.get(p.name, p.dims)) for p in program.params),
    )


def _entries(b: Builder, name: str, program: Program) -> Ref:
    """Bind the entries of a matrix. An argument of the constructor gets no gradient."""
    if any(p.name == name for p in program.params):
        return b.emit(Param(name), name)
    entries = b.emit(Input(name), name)
    is_argument = any(a.name == name for a in program.arguments)
    return b.emit(Detach(entries)) if is_argument else entries


def _as_weighted_pool(b: Builder, op: Pool | Count, entries: Entries) -> Pool | Count:
    """The pool over copies of the axes with given matrices, each with its entries as weights."""
    over: list[tuple[str, Grouping]] = []
    for axis, grouping in op.over:
        if not (isinstance(grouping, Dense) and grouping.matrix in entries):
            over.append((axis, grouping))
            continue
        column = _column_axis(axis, grouping.matrix)
        over.append((column, Ones()))
        where, weight = (_on_column(b, ref, axis, column) for ref in (op.where, op.weight))
        entry = entries[grouping.matrix]
        weight = entry if weight is None else b.map("mul", weight, entry)
        op = replace(op, where=where, weight=weight)
        if isinstance(op, Pool):
            op = replace(op, value=_on_column(b, op.value, axis, column) or op.value)
    return replace(op, over=tuple(over))


def _on_column(b: Builder, ref: Ref | None, axis: str, column: str) -> Ref | None:
    """A value on the copy of an axis, if it has the axis."""
    if ref is None or axis not in b.types[ref].axes:
        return ref
    return b.emit(Rename(ref, axis, column))
