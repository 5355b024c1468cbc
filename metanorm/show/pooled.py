"""The pools of a norm on a small example, seen from one chosen element.

All numbers come from a run in plain Python: its weights and masks, and the rows of its groupings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

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
from metanorm.ir.dump import scan_words
from metanorm.ir.nodes import Count, Let, Pool, Recurrence, Type
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.ir.space import Space
from metanorm.show.example import CannotDraw, example, ring_edges
from metanorm.show.view import Edge, Nodes, PoolView
from metanorm.small.call import Call
from metanorm.small.groupings import Row, cells, pool_rows
from metanorm.small.interpret import values
from metanorm.small.pools import Pools, TooLarge
from metanorm.small.tensor import Tensor, indices, raveled, unraveled
from metanorm.small.values import Values

MAX_EDGES = 3  # of a solid
MAX_POSITIONS = 16  # of an edge

Rule = Grouping | list[Row]  # how positions are pooled; a scan has rows of its own


def pool_views(program: Program) -> list[PoolView]:
    """The pools behind the outputs of a norm, each once, in the order of the program."""
    return _Pools(program).views()


def no_pools_view(program: Program) -> PoolView:
    """The first input of a norm that pools nothing."""
    return _Pools(program).without_pools()


class _Pools:
    def __init__(self, program: Program) -> None:
        self.call: Call = example(program)
        self.program = self.call.program
        self.values: Values = self._values()
        self.space: Space = self.values.space
        self.pools = Pools(self.values)
        self.first = tuple(
            leaf for dim in self.program.inputs[0].dims for leaf in self.space.leaves(dim)
        )

    def _values(self) -> Values:
        """The masks and the weights of pools, and what they are computed from."""
        pools = [let.op for let in self._statistics() if isinstance(let.op, (Pool, Count))]
        refs = [ref for op in pools for ref in (op.where, op.weight) if ref is not None]
        refs += [let.op.decay for let in self._statistics() if isinstance(let.op, Recurrence)]
        try:
            return values(self.call, refs)
        except TooLarge as error:
            raise CannotDraw(f"{error} takes too long to compute") from error

    def views(self) -> list[PoolView]:
        """The views. Statistics over equal pools share one, and a count joins its pool."""
        lets_by_pool: dict[tuple[object, ...], list[Let]] = {}
        counts: list[Let] = []
        scans: dict[Recurrence, list[Let]] = {}
        for let in self._statistics():
            if isinstance(let.op, Recurrence):
                scans.setdefault(replace(let.op, value=""), []).append(let)
            elif isinstance(let.op, Count):
                counts.append(let)
            elif isinstance(let.op, Pool):
                joined = tuple(self.pools.joined(let.op)[0])
                lets_by_pool.setdefault((*_pool_key(let.op), joined), []).append(let)
        for let in counts:
            assert isinstance(let.op, Count)
            same = [key for key in lets_by_pool if key[:3] == _pool_key(let.op)]
            lets_by_pool.setdefault(same[0] if same else _pool_key(let.op), []).append(let)
        pooled = [self._pooled(lets) for lets in lets_by_pool.values()]
        return [*pooled, *(self._scanned(op, lets) for op, lets in scans.items())]

    def _statistics(self) -> Iterator[Let]:
        needed = reachable(self.program, updates=False)
        for top in self.program.body:
            if top.name in needed:
                for let in every_let((top,)):
                    if isinstance(let.op, (Pool, Count, Recurrence)):
                        yield let

    def without_pools(self) -> PoolView:
        edges = self._edges(self.first, {})
        lengths = [edge.length for edge in edges]
        chosen = raveled([edge.chosen for edge in edges], lengths)
        shares = Tensor.of(lengths, lambda place: float(place == chosen))
        return PoolView((), (), (), (), edges, shares, self._left_out(self.first, edges), None)

    def _pooled(self, lets: Sequence[Let]) -> PoolView:
        op = lets[0].op
        assert isinstance(op, (Pool, Count))
        joined, kept = self.pools.joined(op)
        matrices = {
            axis: dict(op.over).get(axis) or dict(op.over)[self.space.base(axis)]
            for axis in joined
            if axis not in kept
        }
        edges = self._edges(joined, matrices)
        return PoolView(
            names=tuple(let.name for let in lets),
            statistics=tuple(dict.fromkeys(_statistic_name(let.op) for let in lets)),
            over=tuple(self._over(op)),
            each=self._each(lets[0].type),
            edges=edges,
            shares=self._shares(op, joined, matrices, edges),
            left_out=self._left_out(joined, edges),
            nodes=self._nodes(op.over, edges),
        )

    def _scanned(self, op: Recurrence, lets: Sequence[Let]) -> PoolView:
        """Each position with those before it, by what is left of them."""
        axes = lets[0].type.axes
        others = tuple(axis for axis in axes if axis != op.axis)
        rows = _scan_rows(op, self.values.broadcast(op.decay, (*others, op.axis)),
                          self.values.size(op.axis))  # fmt: skip
        edges = self._edges(axes, {op.axis: rows})
        chosen = dict.fromkeys(axes, 0) | self._positions(edges, [edge.chosen for edge in edges])
        lengths = [edge.length for edge in edges]

        def share(index: Sequence[int]) -> float:
            at = {**chosen, **self._positions(edges, index)}
            is_beside = any(at[axis] != chosen[axis] for axis in others)
            return 0.0 if is_beside else rows[chosen[op.axis]].get(at[op.axis], 0.0)

        return PoolView(
            names=tuple(let.name for let in lets),
            statistics=(scan_words(op),),
            over=(self._label(op.axis),),
            each=self._each(lets[0].type),
            edges=edges,
            shares=Tensor(tuple(lengths), [share(index) for index in indices(lengths)]),
            left_out=self._left_out(axes, edges),
            nodes=None,
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

    def _edges(self, joined: Sequence[str], matrices: Mapping[str, Rule]) -> tuple[Edge, ...]:
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

    def _edge(self, axes: tuple[str, ...], matrices: Mapping[str, Rule], from_right: bool) -> Edge:
        """One edge, of the first positions alone if there are many.

        In a cube the chosen element is on the right, where three sides are visible.
        """
        lengths = self.values.sizes(axes)
        squares = [self._square(axis, matrices.get(axis)) for axis in axes]
        whole = math.prod(lengths)
        length = min(whole, MAX_POSITIONS)

        def weight(place: int) -> float:
            row, column = (unraveled(part, lengths) for part in divmod(place, length))
            return math.prod(rows[i].get(j, 0.0) for rows, i, j in zip(squares, row, column))

        return Edge(
            label=" × ".join(self._label(name) for name in self.space.unsplit(axes)),
            axes=axes,
            matrix=Tensor.of((length, length), weight),
            chosen=_chosen_position([matrices.get(axis) for axis in axes], length, from_right),
            pooled=any(axis in matrices for axis in axes),
            cut=whole > length,
        )

    def _square(self, axis: str, matrix: Rule | None) -> list[Row]:
        """For each position of an axis, how much each position counts for its statistic."""
        if matrix is None:
            return [{position: 1.0} for position in range(self.values.size(axis))]
        if isinstance(matrix, list):
            return matrix
        rows = pool_rows(matrix, self.values.size(axis), self.call)
        return [rows[pool] for pool in self._pool_of_position(axis, matrix)]

    def _pool_of_position(self, axis: str, matrix: Grouping) -> Sequence[int]:
        """The number of the pool that a position has its statistic from."""
        length = self.values.size(axis)
        return cells(matrix, length, self.call)[0] if is_partition(matrix) else range(length)

    def _left_out(self, joined: Sequence[str], edges: Sequence[Edge]) -> tuple[str, ...]:
        drawn = {axis for edge in edges for axis in edge.axes}
        merged = self.space.unsplit(axis for axis in joined if axis not in drawn)
        return tuple(self._label(name) for name in merged)

    # ---- shares

    def _shares(
        self,
        op: Pool | Count,
        joined: Sequence[str],
        matrices: Mapping[str, Grouping],
        edges: Sequence[Edge],
    ) -> Tensor:
        """The coefficients of the pool of the chosen element, for the elements that are drawn."""
        chosen = dict.fromkeys(joined, 0) | self._positions(edges, [edge.chosen for edge in edges])
        kept = {axis: chosen[axis] for axis in joined if axis not in matrices}
        rows = {
            axis: self.pools.rows(op, axis)[self._pool_of_position(axis, matrix)[chosen[axis]]]
            for axis, matrix in matrices.items()
        }
        coefficients = {
            tuple(at[axis] for axis in joined): coefficient
            for at, inside, coefficient in self.pools.coefficients(op, rows, kept)
            if inside
        }
        lengths = [edge.length for edge in edges]
        drawn = ({**chosen, **self._positions(edges, index)} for index in indices(lengths))
        shares = [coefficients.get(tuple(at[axis] for axis in joined), 0.0) for at in drawn]
        return Tensor(tuple(lengths), shares)

    def _positions(self, edges: Sequence[Edge], index: Sequence[int]) -> dict[str, int]:
        """The position on each axis, from that on each edge."""
        return {
            axis: position
            for edge, place in zip(edges, index)
            for axis, position in zip(edge.axes, unraveled(place, self.values.sizes(edge.axes)))
        }

    # ---- nodes

    def _nodes(self, over: Aggregation, edges: Sequence[Edge]) -> Nodes | None:
        """The nodes of a table whose rows are pooled by an index or along edges."""
        if len(edges) > 2:
            return None
        matrix = dict(over).get(edges[0].axes[0]) if edges[0].pooled else None
        if isinstance(matrix, Neighbours):
            ends = zip(*self.call.tensor(matrix.edges).rows())
            return Nodes((), tuple((int(a), int(b)) for a, b in ends), directed=True)
        if isinstance(matrix, ByIndex):
            cell_of_node, _ = self.call.cells_of_index(matrix.index)
            lines = [(int(a), int(b)) for a, b in zip(*ring_edges(len(cell_of_node)).rows())]
            inside = tuple((a, b) for a, b in lines if a < b and cell_of_node[a] == cell_of_node[b])
            decl = self.program.index.inputs[matrix.index]
            has_edges = decl.table is None and not decl.offsets
            return Nodes(tuple(cell_of_node), inside if has_edges else (), directed=False)
        return None


def _scan_rows(op: Recurrence, decays: Sequence[float], length: int) -> list[Row]:
    """For each position, what a scan has left of each one, in the first line along its axis."""
    rows: list[Row] = [{} for _ in range(length)]
    left: Row = {}
    for place in reversed(range(length)) if op.reverse else range(length):
        begun = left
        left = {other: share * decays[place] for other, share in begun.items()} | {place: 1.0}
        rows[place] = begun if op.before else left
    return rows


def _pool_key(op: Pool | Count) -> tuple[object, ...]:
    return (op.over, op.where, op.weight)


def _statistic_name(op: object) -> str:
    if isinstance(op, Count):
        return "count"
    assert isinstance(op, Pool)
    return "second moment" if op.statistic == "second" else op.statistic


def _chosen_position(matrices: Sequence[Rule | None], length: int, from_right: bool) -> int:
    """The most instructive position: in the middle for windows, late for pasts, else at a side."""
    if any(isinstance(matrix, (Causal, list)) for matrix in matrices):
        return (2 * length) // 3
    if any(isinstance(m, OVERLAPPING) and not isinstance(m, Neighbours) for m in matrices):
        return length // 2
    if any(isinstance(matrix, Dense) for matrix in matrices):
        return 1 if length > 3 and not from_right else 0
    return length - 1 if from_right else 0
