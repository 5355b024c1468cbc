"""Cluster the narrow values of a kernel: a cluster has the values that one loop computes."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import replace

from metanorm.ir.nodes import POINTWISE, Buffer, Expand, Input, Let, Param, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.targets.native.cell_blocks import CellBlock
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.exact_results import exact_alone
from metanorm.targets.native.inlined import reads_elsewhere
from metanorm.targets.native.values import NarrowValues

EXTERNAL_OPS = (Input, Param, Buffer)
PAIRED_MOMENTS = {"mean": "var", "var": "mean"}


class Clusters:
    """The clusters of all blocks. `stored` are the values that need arrays, since something
    outside their own loop reads them; `array_refs` must be among them."""

    def __init__(
        self,
        context: KernelContext,
        values: NarrowValues,
        blocks: Sequence[CellBlock],
        array_refs: Collection[Ref],
    ) -> None:
        self.ctx = context
        self.lets = context.program.index.lets
        self.values = values
        self.array_refs = set(array_refs)
        self.measured: Container[Ref] = values.measured
        self.exact_alone = exact_alone(context.nest)
        self._by_block = {id(block): self._find_clusters(block) for block in blocks}
        self.stored = self._stored(blocks, self.array_refs)

    def of(self, block: CellBlock) -> list[list[Ref]]:
        """The clusters of a block, in order."""
        return self._by_block[id(block)]

    def _refs_in_order(self, block: CellBlock) -> list[Ref]:
        reductions = (self.ctx.nest.reductions[number] for number in block.finished)
        measured = [ref for r in reductions for _, ref in r.results if ref not in self.exact_alone]
        return [*measured, *(let.name for let in block.lets if self._needs_computing(let))]

    def _needs_computing(self, let: Let) -> bool:
        """Whether a statement computes the value: it is not an argument, and not inlined."""
        written_out = let.name in self.values.inlined or self.values.is_inline(let.name)
        return not isinstance(let.op, EXTERNAL_OPS) and not written_out

    def is_pointwise(self, ref: Ref) -> bool:
        """Whether a value depends only on values at its own position."""
        same_place = isinstance(self.lets[ref].op, POINTWISE)
        return ref in self.measured or same_place or self.values.is_known_from_sizes(ref)

    def _is_spread(self, ref: Ref) -> bool:
        """Whether a value repeats another one in an array. Only some layouts have such values, so
        that they have loops of their own, beside those that are alike in all."""
        return isinstance(self.lets[ref].op, Expand) and ref in self.array_refs

    def _find_clusters(self, block: CellBlock) -> list[list[Ref]]:
        """The values of a block, in an order that puts values on the same axes into one cluster."""
        remaining = self._refs_in_order(block)
        placed: set[Ref] = set()
        clusters: list[list[Ref]] = []
        while remaining:
            ready = [r for r in remaining if not self._is_blocked(r, remaining, placed)]
            cluster = [ready[0]]
            cluster += self._paired_moment(ready[0], ready)
            placed.update(cluster)
            axes = self.lets[ready[0]].type.axes
            while self.is_pointwise(ready[0]):
                next_ref = next(
                    (
                        r for r in remaining
                        if r not in placed
                        and self.is_pointwise(r) and self.lets[r].type.axes == axes
                        and not self._is_blocked(r, remaining, placed)
                        and not self._reads_relocated(r, cluster)
                        and self._is_spread(r) == self._is_spread(ready[0])
                    ),
                    None,
                )  # fmt: skip
                if next_ref is None:
                    break
                cluster.append(next_ref)
                placed.add(next_ref)
            remaining = [r for r in remaining if r not in placed]
            clusters.append(cluster)
        return clusters

    def _paired_moment(self, ref: Ref, ready: Sequence[Ref]) -> list[Ref]:
        """The variance that belongs to a mean, or the reverse: both need the same sums."""
        op = self.lets[ref].op
        is_moment = isinstance(op, Pool) and op.statistic in PAIRED_MOMENTS
        if not is_moment or self.is_pointwise(ref):
            return []
        assert isinstance(op, Pool)
        paired_op = replace(op, statistic=PAIRED_MOMENTS[op.statistic])
        return [r for r in ready if self.lets[r].op == paired_op]

    def _is_blocked(self, ref: Ref, remaining: Sequence[Ref], placed: set[Ref]) -> bool:
        if ref in self.measured:
            return False
        return any(r in remaining and r not in placed for r, _ in self._reads(ref))

    def _reads_relocated(self, ref: Ref, cluster: Sequence[Ref]) -> bool:
        """Whether a value reads a value of the cluster at another position than its own."""
        if ref in self.measured:
            return False
        return any(moved and r in cluster for r, moved in self._reads(ref))

    def _reads(self, ref: Ref, is_moved_already: bool = False) -> Iterator[tuple[Ref, bool]]:
        """The values that a value reads, and whether it reads them at another position."""
        op = self.lets[ref].op
        for operand in operands(op):
            is_moved = is_moved_already or reads_elsewhere(op)
            if operand in self.values.inlined:
                yield from self._reads(operand, is_moved)
            else:
                yield operand, is_moved

    def _stored(self, blocks: Sequence[CellBlock], array_refs: set[Ref]) -> set[Ref]:
        """The values that something outside their own loop reads."""
        cluster_ids: dict[Ref, int] = {}
        for block in blocks:
            for cluster in self.of(block):
                for ref in cluster:
                    cluster_ids[ref] = id(cluster)
        stored = array_refs & set(cluster_ids)
        for let in self.ctx.program.body:
            for ref in operands(let.op) if let.name not in self.measured else ():
                in_other_cluster = cluster_ids.get(let.name) != cluster_ids.get(ref)
                if ref in cluster_ids and (in_other_cluster or not self.is_pointwise(let.name)):
                    stored.add(ref)
        stored |= {ref for ref in cluster_ids if not self.is_pointwise(ref)}
        return stored
