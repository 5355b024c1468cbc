"""The pools of a norm on a small example, seen from one chosen element.

All numbers come from the oracle: its dense matrices, and its weights and masks in a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metanorm.ir.aggregation import (
    OVERLAPPING,
    Aggregation,
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    grouping_text,
    is_partition,
)
from metanorm.ir.nodes import Count, Let, Pool, Program, Type
from metanorm.ir.reachable import reachable
from metanorm.ir.space import Space
from metanorm.oracle.dense import pooling_matrix
from metanorm.oracle.interpret import values
from metanorm.oracle.pools import Pools
from metanorm.oracle.values import Values
from metanorm.show.example import example, nested_lets, ring_edges
from metanorm.show.view import Edge, Nodes, PoolView

F64 = torch.float64
MAX_EDGES = 3  # of a solid
MAX_POSITIONS = 16  # of an edge


def pool_views(program: Program) -> list[PoolView]:
    """The pools behind the outputs of a norm, each once, in the order of the program."""
    return _Pools(program).views()


def no_pools_view(program: Program) -> PoolView:
    """The first input of a norm that pools nothing."""
    return _Pools(program).without_pools()


class _Pools:
    def __init__(self, program: Program) -> None:
        self.program, call = example(program)
        self.values: Values = values(self.program, call)
        self.space: Space = self.values.space
        self.oracle = Pools(self.values)
        self.first = tuple(
            leaf for dim in self.program.inputs[0].dims for leaf in self.space.leaves(dim)
        )

    def views(self) -> list[PoolView]:
        """The views. Statistics over equal pools share one, and a count joins its pool."""
        lets_by_pool: dict[tuple[object, ...], list[Let]] = {}
        counts: list[Let] = []
        for let in self._statistics():
            assert isinstance(let.op, (Pool, Count))
            if isinstance(let.op, Count):
                counts.append(let)
            else:
                axes = self.values.types[let.op.value].axes
                joined = tuple(self.oracle.joined(let.op, axes)[0])
                lets_by_pool.setdefault((*_pool_key(let.op), joined), []).append(let)
        for let in counts:
            assert isinstance(let.op, Count)
            same = [key for key in lets_by_pool if key[:3] == _pool_key(let.op)]
            lets_by_pool.setdefault(same[0] if same else _pool_key(let.op), []).append(let)
        return [self._pooled(lets) for lets in lets_by_pool.values()]

    def _statistics(self) -> Iterator[Let]:
        needed = reachable(self.program, updates=False)
        for top in self.program.body:
            if top.name in needed:
                for let in nested_lets((top,)):
                    if isinstance(let.op, (Pool, Count)):
                        yield let

    def without_pools(self) -> PoolView:
        edges = tuple(_truncated(edge) for edge in self._edges(self.first, {}))
        shares = torch.zeros([edge.length for edge in edges], dtype=F64)
        shares[tuple(edge.chosen for edge in edges)] = 1
        return PoolView((), (), (), (), edges, shares, self._left_out(self.first, edges), None)

    def _pooled(self, lets: Sequence[Let]) -> PoolView:
        op = lets[0].op
        assert isinstance(op, (Pool, Count))
        axes = self.values.types[op.value].axes if isinstance(op, Pool) else ()
        joined, kept = self.oracle.joined(op, axes)
        matrices = {
            axis: dict(op.over).get(axis) or dict(op.over)[self.space.base(axis)]
            for axis in joined
            if axis not in kept
        }
        edges = self._edges(joined, matrices)
        shares = self._shares(op, joined, kept, matrices, edges)
        edges = tuple(_truncated(edge) for edge in edges)
        return PoolView(
            names=tuple(let.name for let in lets),
            statistics=tuple(dict.fromkeys(_statistic_name(let.op) for let in lets)),
            over=tuple(self._over(op)),
            each=self._each(lets[0].type),
            edges=edges,
            shares=shares[tuple(slice(edge.length) for edge in edges)],
            left_out=self._left_out(joined, edges),
            nodes=self._nodes(op.over, edges),
        )

    # ---- in words

    def _label(self, axis: str) -> str:
        return f"*{axis}" if self.space[axis].variadic else axis

    def _over(self, op: Pool | Count) -> Iterator[str]:
        for axis, matrix in op.over:
            by = grouping_text(matrix)
            yield self._label(axis) if by == "ones" else f"{self._label(axis)}: {by}"
        if op.where:
            yield "where " + ("the condition holds" if op.where.startswith("%") else op.where)
        if op.weight:
            yield "weighted" if op.weight.startswith("%") else f"weighted by {op.weight}"

    def _each(self, type_: Type) -> tuple[str, ...]:
        return tuple(self._label(axis) for axis in self.space.unsplit(type_.axes))

    # ---- edges

    def _edges(self, joined: Sequence[str], matrices: dict[str, Grouping]) -> tuple[Edge, ...]:
        """At most three edges: axes that are not pooled are left out, or pooled ones merged."""
        wholes = [self.space.leaves(name) for name in self.space.unsplit(joined)]
        while len(wholes) > MAX_EDGES:
            free = [axes for axes in wholes if not set(axes) & set(matrices)]
            foreign = [axes for axes in free if not set(axes) & set(self.first)]
            if free:
                wholes.remove(foreign[-1] if foreign else free[0])
            else:
                wholes[-2:] = [(*wholes[-2], *wholes[-1])]
        last = len(wholes) - 1
        return tuple(
            self._edge(axes, matrices, 0 < rank == last and last > 1)
            for rank, axes in enumerate(wholes)
        )

    def _edge(self, axes: tuple[str, ...], matrices: dict[str, Grouping], from_right: bool) -> Edge:
        """One edge. In a cube the chosen element is on the right, where three sides are visible."""
        product = torch.ones(1, 1, dtype=F64)
        for axis in axes:
            product = torch.kron(product, self.square(axis, matrices.get(axis)))
        merged = self.space.unsplit(axes)
        return Edge(
            label=" × ".join(self._label(name) for name in merged),
            axes=axes,
            matrix=product,
            chosen=_chosen_position(
                [matrices.get(axis) for axis in axes], len(product), from_right
            ),
            pooled=any(axis in matrices for axis in axes),
        )

    def square(self, axis: str, matrix: Grouping | None) -> Tensor:
        """The matrix [i, j]: how much position j counts for the statistic of position i."""
        length = self.values.size(axis)
        if matrix is None:
            return torch.eye(length, dtype=F64)
        dense, _ = pooling_matrix(matrix, length, self.values.env.grouping_data)
        dense = dense[:, :length]
        return dense[_pool_of_position(matrix, dense)]

    def _left_out(self, joined: Sequence[str], edges: Sequence[Edge]) -> tuple[str, ...]:
        drawn = {axis for edge in edges for axis in edge.axes}
        merged = self.space.unsplit(axis for axis in joined if axis not in drawn)
        return tuple(self._label(name) for name in merged)

    # ---- shares

    def _shares(
        self,
        op: Pool | Count,
        joined: Sequence[str],
        kept: Sequence[str],
        matrices: dict[str, Grouping],
        edges: Sequence[Edge],
    ) -> Tensor:
        """The coefficients of the pool of the chosen element, for the elements that are drawn."""
        sizes = {axis: self.values.size(axis) for axis in joined}
        chosen = dict.fromkeys(joined, 0)
        for edge in edges:
            indices = torch.unravel_index(
                torch.tensor(edge.chosen), [sizes[axis] for axis in edge.axes]
            )
            chosen.update(zip(edge.axes, (int(index) for index in indices)))
        pooled = [axis for axis in joined if axis not in kept]
        weights, rows, extra = self.oracle.coefficients(op, joined, kept)
        weights = weights.expand(*(sizes[axis] for axis in kept), *weights.shape[-2:])
        row = 0
        for axis, count in zip(pooled, rows):
            environment = self.values.env.grouping_data
            dense, _ = pooling_matrix(matrices[axis], sizes[axis], environment)
            row = row * count + int(
                _pool_of_position(matrices[axis], dense[:, : sizes[axis]])[chosen[axis]]
            )
        line = weights[tuple(chosen[axis] for axis in kept)][row]
        inside = line.reshape([sizes[axis] + more for axis, more in zip(pooled, extra)])
        for position, axis in enumerate(pooled):
            inside = inside.narrow(position, 0, sizes[axis])
        full = torch.zeros([sizes[axis] for axis in joined], dtype=F64)
        full[tuple(slice(None) if a in pooled else chosen[a] for a in joined)] = inside
        drawn = {axis for edge in edges for axis in edge.axes}
        full = full[tuple(slice(None) if a in drawn else chosen[a] for a in joined)]
        return full.reshape([edge.length for edge in edges])

    # ---- nodes

    def _nodes(self, over: Aggregation, edges: Sequence[Edge]) -> Nodes | None:
        """The nodes of a table whose rows are pooled by an index or along edges."""
        if len(edges) > 2:
            return None
        matrix = dict(over).get(edges[0].axes[0]) if edges[0].pooled else None
        if isinstance(matrix, Neighbours):
            ends = self.values.env.grouping_data.edges[matrix.edges]
            return Nodes((), tuple((int(a), int(b)) for a, b in ends.T), directed=True)
        if isinstance(matrix, ByIndex):
            cells = self.values.env.grouping_data.indices[matrix.index].tolist()
            lines = ring_edges(len(cells)).T.tolist()
            inside = tuple((a, b) for a, b in lines if a < b and cells[a] == cells[b])
            table = next(i.table for i in self.program.inputs if i.name == matrix.index)
            return Nodes(tuple(cells), () if table else inside, directed=False)
        return None


def _pool_key(op: Pool | Count) -> tuple[object, ...]:
    return (op.over, op.where, op.weight)


def _statistic_name(op: object) -> str:
    if isinstance(op, Count):
        return "count"
    assert isinstance(op, Pool)
    return "second moment" if op.statistic == "second" else op.statistic


def _pool_of_position(matrix: Grouping, dense: Tensor) -> Tensor:
    """The row of the dense matrix that pools for each position."""
    if is_partition(matrix):
        return dense.argmax(dim=0)
    return torch.arange(dense.shape[1])


def _truncated(edge: Edge) -> Edge:
    """The edge, with at most `MAX_POSITIONS` positions."""
    if edge.length <= MAX_POSITIONS:
        return edge
    return replace(edge, matrix=edge.matrix[:MAX_POSITIONS, :MAX_POSITIONS], cut=True)


def _chosen_position(matrices: Sequence[Grouping | None], whole: int, from_right: bool) -> int:
    """The most instructive position: in the middle for windows, late for pasts, else at a side."""
    length = min(whole, MAX_POSITIONS)
    if any(isinstance(matrix, Causal) for matrix in matrices):
        return (2 * length) // 3
    if any(isinstance(m, OVERLAPPING) and not isinstance(m, Neighbours) for m in matrices):
        return length // 2
    if any(isinstance(matrix, Dense) for matrix in matrices):
        return 1 if length > 3 and not from_right else 0
    return length - 1 if from_right else 0
