"""Rewrite pools of neighbours as weighted pools over a copy of their axis.

The adjacency matrix holds the number of edges between each two nodes. It is nearly empty, and no
code builds it. The mean of v over the neighbours of a node is the mean of `v[V -> V.edges]` over
all of V.edges, with the links `[V, V.edges]` as weights. A loop over a factor that is a link
follows the edges into a node, or out of it for the transpose. So the derivation of gradients needs
no case for neighbours.

Other pooled axes are pooled for each node first. All nodes have the same number of elements there,
so the mean is the mean of the means, and the variance is the mean of the variances plus the
variance of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Grouping, Neighbours, Ones
from metanorm.ir.nodes import Axis, Count, Let, Link, Pool, Ref, Rename, Type
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import SizeOf
from metanorm.passes.builder import Builder

STATISTICS = ("sum", "mean", "var", "max", "min")


def neighbours(program: Program) -> Program:
    """The program with links as weights in place of all rewritable pools of neighbours."""
    pools = [let.op for let in program.body if rewritable(let, program)]
    if not pools:
        return program
    builder = Builder(_with_source_axes(program, pools))
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if not rewritable(let, program):
            builder.copy(let, op)
        elif isinstance(op, Count):
            builder.copy(let, _as_weighted_pool(builder, op))
        elif isinstance(op, Pool):
            _rewrite_pool(builder, let, op)
    return builder.finish()


def rewritable(let: Let, program: Program) -> bool:
    """Whether the pass can rewrite a binding: a pool of neighbours that can pool nodes first."""
    op = let.op
    if not isinstance(op, (Pool, Count)) or _graph_of(op.over) is None:
        return False
    types, (axis, grouping) = program.index.types, _graph_of(op.over) or ("", Ones())
    assert isinstance(grouping, Neighbours)
    edges_decl = program.index.inputs[grouping.edges]
    other_axes = {a for a, _ in op.over} - {axis}
    weights = [w for w in (op.where, op.weight) if w is not None]
    varying = [a for w in weights for a in _axes_of(types, w, program) if a in other_axes]
    if varying or not edges_decl.required or program.index.space[axis].variadic:
        return False
    if any(not isinstance(m, Ones) for a, m in op.over if a != axis):
        return False
    if isinstance(op, Count):
        return True
    if op.statistic not in STATISTICS or op.ddof or op.about is not None:
        return False
    input_axes = {
        leaf for dim in program.inputs[0].dims for leaf in program.index.space.leaves(dim)
    }
    return not input_axes <= {*types[op.value].axes} - other_axes and axis in types[op.value].axes


def _axes_of(types: Mapping[Ref, Type], ref: Ref, program: Program) -> set[str]:
    return {program.index.space.base(axis) for axis in types[ref].axes} | {*types[ref].axes}


def _graph_of(over: Aggregation) -> tuple[str, Neighbours] | None:
    """The axis of nodes of a pool of neighbours, and its edges; `None` for other pools."""
    return next(((axis, m) for axis, m in over if isinstance(m, Neighbours)), None)


def _source_axis(axis: str, matrix: Neighbours) -> str:
    """The name of the copy of `axis` for the sources of edges.

    Each kind of links has a copy of its own, so that gradients along two kinds are not added before
    they are pooled.
    """
    return f"{axis}.{matrix.edges}{'.self' if matrix.loop else ''}"


def _with_source_axes(program: Program, pools: Iterable[object]) -> Program:
    """The program with the copied axes."""
    copies: dict[str, str] = {}
    for op in pools:
        assert isinstance(op, (Pool, Count))
        graph = _graph_of(op.over)
        assert graph is not None
        copies[_source_axis(*graph)] = graph[0]
    axes: list[Axis] = []
    for declared in program.axes:
        axes.append(declared)
        axes += [Axis(c, size=SizeOf(axis)) for c, axis in copies.items() if axis == declared.name]
    return replace(program, axes=tuple(axes))


def _rewrite_pool(b: Builder, let: Let, op: Pool) -> None:
    """Bind a statistic of neighbours: of the nodes first, if other axes are pooled."""
    node_over = tuple(pair for pair in op.over if not isinstance(pair[1], Neighbours))
    graph_over = tuple(pair for pair in op.over if isinstance(pair[1], Neighbours))
    if not node_over:
        b.copy(let, _as_weighted_pool(b, op))
        return

    def of_nodes(statistic: str) -> Ref:
        return b.emit(Pool(statistic, op.value, node_over))

    def of_neighbours(statistic: str, value: Ref) -> Pool:
        pool = replace(op, statistic=statistic, value=value, over=graph_over)
        linked = _as_weighted_pool(b, pool)
        assert isinstance(linked, Pool)
        return linked

    if op.statistic != "var":
        b.copy(let, of_neighbours(op.statistic, of_nodes(op.statistic)))
        return
    within = b.emit(of_neighbours("mean", of_nodes("var")))
    between = b.emit(of_neighbours("var", of_nodes("mean")))
    b.substitute(let, b.map("add", within, between, name=let.name))


def _as_weighted_pool(b: Builder, op: Pool | Count) -> Pool | Count:
    """The pool over the copied axis, with links as weights."""
    over: list[tuple[str, Grouping]] = []
    for axis, grouping in op.over:
        if not isinstance(grouping, Neighbours):
            over.append((axis, grouping))
            continue
        source = _source_axis(axis, grouping)
        over.append((source, Ones()))
        link = b.emit(Link(grouping.edges, axis, source, grouping.loop))
        where, weight = (_on_source(b, ref, axis, source) for ref in (op.where, op.weight))
        weight = link if weight is None else b.map("mul", weight, link)
        op = replace(op, where=where, weight=weight)
        if isinstance(op, Pool):
            op = replace(op, value=_on_source(b, op.value, axis, source) or op.value)
    return replace(op, over=tuple(over))


def _on_source(b: Builder, ref: Ref | None, axis: str, source: str) -> Ref | None:
    """A value on the copy of an axis, if it has the axis."""
    if ref is None or axis not in b.types[ref].axes:
        return ref
    return b.emit(Rename(ref, axis, source))
