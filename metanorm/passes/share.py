"""Compute coarse moments from fine ones, so that each tensor is measured once.

All means and variances of a value come from its moments on the finest cells that any of them
needs, by Chan's rule: the variance of a union is the mean of the variances plus the variance of the
means. SwitchNorm then makes one pass over x, and a pool by a given matrix works on the small table
of cell moments. Two pools between which a flag chooses are measured apart: no call needs both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metanorm.ir.aggregation import (
    Aggregation,
    ByIndex,
    Dense,
    Grouping,
    Ones,
    is_partition,
    refines,
)
from metanorm.ir.flags import choosing_flags, reachable_with_flag
from metanorm.ir.nodes import Count, Let, Pool, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.space import Space
from metanorm.passes.builder import Builder

MOMENTS = ("mean", "var", "second")
# The key of pools that are measured together: their value, and the flags that choose them.
Family = tuple[Ref, frozenset[tuple[str, bool]]]


@dataclass(frozen=True)
class Cells:
    """The moments of a value on the finest cells."""

    over: Aggregation
    mean: Ref
    var: Ref


def share(program: Program) -> Program:
    """The program with the moments of each value measured on one set of cells."""
    return _Share(program).run()


class _Share:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.pools: dict[Family, list[Pool]] = {}
        self.cells: dict[Family, Cells | None] = {}
        self.alternatives = _alternatives(program)
        for let in program.body:
            if isinstance(let.op, Pool) and _is_shareable(let.op):
                self.pools.setdefault(self._family_of(let.name, let.op), []).append(let.op)

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            if isinstance(op, Pool) and isinstance(let.op, Pool) and _is_shareable(let.op):
                self._pool(let, let.op, op)
            else:
                self.b.copy(let)
        return self.b.finish()

    def _family_of(self, name: Ref, op: Pool) -> Family:
        return op.value, self.alternatives.get(name, frozenset())

    def _pool(self, let: Let, old_op: Pool, op: Pool) -> None:
        self.b.span = let.span
        family = self._family_of(let.name, old_op)
        if family not in self.cells:
            self.cells[family] = self._measure_cells(self.pools[family], op.value)
        cells = self.cells[family]
        if cells is None or not self._pays(op, cells, self.pools[family]):
            self.b.copy(let)
            return
        remaining = remaining_pool(self.b.space, op.over, cells.over)
        mean, var = self._from_cells(cells.mean, cells.var, remaining)
        if op.statistic == "second":
            assert op.about is not None
            offset = self.b.map("sub", mean, op.about)
            var = self.b.map("add", var, self.b.map("mul", offset, offset))
        self.b.substitute(let, mean if op.statistic == "mean" else var)

    def _pays(self, op: Pool, cells: Cells, family: Sequence[Pool]) -> bool:
        """Whether cells pay. Second moments alone on these very cells do without."""
        statistics = {pool.statistic for pool in family}
        return op.statistic != "second" or statistics != {"second"} or cells.over != op.over

    # ---- the finest cells

    def _measure_cells(self, pools: list[Pool], value: Ref) -> Cells | None:
        distinct = list(dict.fromkeys(pool.over for pool in pools))
        has_given_matrix = any(isinstance(m, Dense) for over in distinct for _, m in over)
        if len(distinct) < 2 and not has_given_matrix:
            return None
        over = common_refinement(distinct)
        if not over:
            if not has_given_matrix:
                return None
            return Cells((), value, self.b.number(0))
        mean = self.b.emit(Pool("mean", value, over))
        return Cells(over, mean, self.b.emit(Pool("var", value, over)))

    # ---- from cells to pools

    def _from_cells(
        self, mean: Ref, var: Ref, remaining: list[tuple[str, Grouping]]
    ) -> tuple[Ref, Ref]:
        """Mean and variance over the remaining axes, by Chan's rule.

        One step pools all whole axes; each given matrix has a step of its own.
        """
        steps = [tuple(pair for pair in remaining if not isinstance(pair[1], Dense))]
        steps += [(pair,) for pair in remaining if isinstance(pair[1], Dense)]
        for over in filter(None, steps):
            weight = self._cell_weights(over)
            role = f"%{over[0][1].matrix}_mean" if isinstance(over[0][1], Dense) else ""
            between = self.b.emit(Pool("var", mean, over, weight=weight), "%between")
            mean = self.b.emit(Pool("mean", mean, over, weight=weight), role)
            if self.b.constant_value(var) == 0:
                var = between
                continue
            within = self.b.emit(Pool("mean", var, over, weight=weight), "%within")
            var = self.b.map("add", within, between)
        return mean, var

    def _cell_weights(self, over: Aggregation) -> Ref | None:
        """The counts of cells, if they are cells of an index; all other cells have one size."""
        for axis, matrix in over:
            cells_of = self.b.space[axis].cells_of
            if isinstance(matrix, Ones) and cells_of and isinstance(cells_of[1], ByIndex):
                return self.b.emit(Count((cells_of,)))
        return None


def _alternatives(program: Program) -> dict[Ref, frozenset[tuple[str, bool]]]:
    """By pool: the flags that choose it instead of another pool of the same value."""
    pools = {let.name: let.op.value for let in program.body if isinstance(let.op, Pool)}
    choices: dict[Ref, set[tuple[str, bool]]] = {}
    for flag in choosing_flags(program):
        on, off = (
            reachable_with_flag(program, flag, True),
            reachable_with_flag(program, flag, False),
        )
        sides = {True: (on - off) & pools.keys(), False: (off - on) & pools.keys()}
        in_both = {pools[ref] for ref in sides[True]} & {pools[ref] for ref in sides[False]}
        for value, refs in sides.items():
            for ref in refs:
                if pools[ref] in in_both:
                    choices.setdefault(ref, set()).add((flag, value))
    return {ref: frozenset(sides) for ref, sides in choices.items()}


def common_refinement(overs: Sequence[Aggregation]) -> Aggregation:
    """On each axis that all of them pool by a partition: the partition that refines the others."""
    refinement = []
    for axis, _ in overs[0]:
        groupings = [dict(over).get(axis) for over in overs]
        partitions = [m for m in groupings if m is not None and is_partition(m)]
        if len(partitions) < len(overs):
            continue
        finest = [m for m in partitions if all(refines(m, other) for other in partitions)]
        if finest:
            refinement.append((axis, finest[0]))
    return tuple(refinement)


def remaining_pool(
    space: Space, over: Aggregation, cells: Aggregation
) -> list[tuple[str, Grouping]]:
    """What is left to pool after `cells`, on the axes of the statistics of cells."""
    grouping_by_axis = dict(cells)
    remaining: list[tuple[str, Grouping]] = []
    for axis, grouping in over:
        if axis not in grouping_by_axis:
            remaining.append((axis, grouping))
        elif grouping != grouping_by_axis[axis]:
            remaining.append((space.cell_axis(axis, grouping_by_axis[axis]), grouping))
    return remaining


def _is_shareable(op: Pool) -> bool:
    is_unweighted = op.where is None and op.weight is None and not op.ddof
    is_known_grouping = all(is_partition(m) or isinstance(m, Dense) for _, m in op.over)
    return op.statistic in MOMENTS and is_unweighted and is_known_grouping
