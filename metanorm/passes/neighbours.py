"""Pools of neighbours become weighted pools over a copy of their axis.

How many edges lead from one node to another is a matrix, which is nearly empty and never made. The
mean of v over the neighbours of a node is that of `v[V -> V.edges]` over all of V.edges, with the
links `[V, V.edges]` as weights. Links that count for a node are found by going along its edges, and
those that a node counts for by going along the edges that leave it: whoever derives sums needs no
case for them, and whoever prints loops goes along edges where a factor is a link.

What neighbours have on further axes that are pooled is pooled for each node first: the mean over
all is that of the means, since all nodes have the same number of elements, and the variance is the
mean of the variances and the variance of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Grouping, Neighbours, Ones
from metanorm.ir.nodes import Axis, Count, Let, Link, Pool, Program, Ref, Rename, Type
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import SizeOf
from metanorm.passes.builder import Builder

STATISTICS = ("sum", "mean", "var", "max", "min")


def neighbours(program: Program) -> Program:
    """The program in which no pool goes over neighbours, but for those that cannot be rewritten."""
    found = [let.op for let in program.body if rewritable(let, program)]
    if not found:
        return program
    builder = Builder(_declared(program, found))
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if not rewritable(let, program):
            builder.copy(let, op)
        elif isinstance(op, Count):
            builder.copy(let, _linked(builder, op))
        elif isinstance(op, Pool):
            _pool(builder, let, op)
    return builder.finish()


def rewritable(let: Let, program: Program) -> bool:
    """Whether a value is pooled over neighbours and other axes in a way that takes nodes first."""
    op = let.op
    if not isinstance(op, (Pool, Count)) or _graph(op.over) is None:
        return False
    types, (axis, matrix) = program.index.types, _graph(op.over) or ("", Ones())
    assert isinstance(matrix, Neighbours)
    given = program.index.inputs[matrix.edges]
    others = {a for a, _ in op.over} - {axis}
    weights = [w for w in (op.where, op.weight) if w is not None]
    rest = [a for w in weights for a in _on(types, w, program) if a in others]
    if rest or not given.required or program.index.space[axis].variadic:
        return False
    if any(not isinstance(m, Ones) for a, m in op.over if a != axis):
        return False
    if isinstance(op, Count):
        return True
    if op.statistic not in STATISTICS or op.ddof or op.about is not None:
        return False
    first = {leaf for dim in program.inputs[0].dims for leaf in program.index.space.leaves(dim)}
    return not first <= {*types[op.value].axes} - others and axis in types[op.value].axes


def _on(types: Mapping[Ref, Type], ref: Ref, program: Program) -> set[str]:
    return {program.index.space.base(axis) for axis in types[ref].axes} | {*types[ref].axes}


def _graph(over: Aggregation) -> tuple[str, Neighbours] | None:
    """The axis of nodes, and their edges."""
    return next(((axis, m) for axis, m in over if isinstance(m, Neighbours)), None)


def _source(axis: str, matrix: Neighbours) -> str:
    """The axis of the nodes that count for one of `axis`. Each kind of links has its own, so that
    gradients by two kinds are not added up before they are pooled."""
    return f"{axis}.{matrix.edges}{'.self' if matrix.loop else ''}"


def _declared(program: Program, found: Iterable[object]) -> Program:
    """The program with the copies of axes."""
    copies: dict[str, str] = {}
    for op in found:
        assert isinstance(op, (Pool, Count))
        graph = _graph(op.over)
        assert graph is not None
        copies[_source(*graph)] = graph[0]
    axes: list[Axis] = []
    for known in program.axes:
        axes.append(known)
        axes += [Axis(c, size=SizeOf(axis)) for c, axis in copies.items() if axis == known.name]
    return replace(program, axes=tuple(axes))


def _pool(b: Builder, let: Let, op: Pool) -> None:
    """A statistic of nodes, and that of neighbours of it."""
    others = tuple(pair for pair in op.over if not isinstance(pair[1], Neighbours))
    graph = tuple(pair for pair in op.over if isinstance(pair[1], Neighbours))
    if not others:
        b.copy(let, _linked(b, op))
        return

    def of_nodes(statistic: str) -> Ref:
        return b.emit(Pool(statistic, op.value, others))

    def of_neighbours(statistic: str, value: Ref) -> Pool:
        pool = replace(op, statistic=statistic, value=value, over=graph)
        linked = _linked(b, pool)
        assert isinstance(linked, Pool)
        return linked

    if op.statistic != "var":
        b.copy(let, of_neighbours(op.statistic, of_nodes(op.statistic)))
        return
    within = b.emit(of_neighbours("mean", of_nodes("var")))
    between = b.emit(of_neighbours("var", of_nodes("mean")))
    b.substitute(let, b.map("add", within, between, name=let.name))


def _linked(b: Builder, op: Pool | Count) -> Pool | Count:
    """The pool over the copy of an axis, with links as weights."""
    over: list[tuple[str, Grouping]] = []
    for axis, matrix in op.over:
        if not isinstance(matrix, Neighbours):
            over.append((axis, matrix))
            continue
        source = _source(axis, matrix)
        over.append((source, Ones()))
        link = b.emit(Link(matrix.edges, axis, source, matrix.loop))
        where, weight = (_moved(b, ref, axis, source) for ref in (op.where, op.weight))
        weight = link if weight is None else b.map("mul", weight, link)
        op = replace(op, where=where, weight=weight)
        if isinstance(op, Pool):
            op = replace(op, value=_moved(b, op.value, axis, source) or op.value)
    return replace(op, over=tuple(over))


def _moved(b: Builder, ref: Ref | None, axis: str, source: str) -> Ref | None:
    """A value on the copy of an axis."""
    if ref is None or axis not in b.types[ref].axes:
        return ref
    return b.emit(Rename(ref, axis, source))
