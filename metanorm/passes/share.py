"""Coarse moments from fine ones: each tensor is measured once.

All mean and variance pools of a value are taken from its moments on the finest cells
that any of them needs, by Chan's rule: the variance of a union is the mean of the
variances plus the variance of the means. SwitchNorm then looks at x once, and a pool
with given matrices works on the small table of cell moments. Pools of which no call needs
both, since a flag chooses between them, are measured apart.
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
from metanorm.ir.nodes import Count, Let, Pool, Program, Ref
from metanorm.ir.rename import map_operands
from metanorm.ir.space import Space
from metanorm.passes.builder import Builder

MOMENTS = ("mean", "var", "second")
# Pools that are measured together: of one value, and not each for another value of a flag.
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
            if isinstance(let.op, Pool) and _shareable(let.op):
                self.pools.setdefault(self._family(let.name, let.op), []).append(let.op)

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            if isinstance(op, Pool) and isinstance(let.op, Pool) and _shareable(let.op):
                self._pool(let, let.op, op)
            else:
                self.b.copy(let)
        return self.b.finish()

    def _family(self, name: Ref, op: Pool) -> Family:
        return op.value, self.alternatives.get(name, frozenset())

    def _pool(self, let: Let, old: Pool, op: Pool) -> None:
        self.b.span = let.span
        family = self._family(let.name, old)
        if family not in self.cells:
            self.cells[family] = self._measure(self.pools[family], op.value)
        cells = self.cells[family]
        if cells is None or not self._worthwhile(op, cells, self.pools[family]):
            self.b.copy(let)
            return
        rest = remaining_pool(self.b.space, op.over, cells.over)
        mean, var = self._coarse(cells.mean, cells.var, rest)
        if op.statistic == "second":
            assert op.about is not None
            offset = self.b.map("sub", mean, op.about)
            var = self.b.map("add", var, self.b.map("mul", offset, offset))
        self.b.substitute(let, mean if op.statistic == "mean" else var)

    def _worthwhile(self, op: Pool, cells: Cells, family: Sequence[Pool]) -> bool:
        """A raw second moment alone is better measured as it is."""
        others = {pool.statistic for pool in family}
        return op.statistic != "second" or others != {"second"} or cells.over != op.over

    # ---- the finest cells

    def _measure(self, pools: list[Pool], value: Ref) -> Cells | None:
        distinct = list(dict.fromkeys(pool.over for pool in pools))
        given = any(isinstance(m, Dense) for over in distinct for _, m in over)
        if len(distinct) < 2 and not given:
            return None
        over = common_refinement(distinct)
        if not over:
            if not given:
                return None
            return Cells((), value, self.b.number(0))
        mean = self.b.emit(Pool("mean", value, over))
        return Cells(over, mean, self.b.emit(Pool("var", value, over)))

    # ---- from cells to pools

    def _coarse(self, mean: Ref, var: Ref, rest: list[tuple[str, Grouping]]) -> tuple[Ref, Ref]:
        """Chan's rule: all whole axes in one step, each given matrix in one of its own."""
        steps = [tuple(pair for pair in rest if not isinstance(pair[1], Dense))]
        steps += [(pair,) for pair in rest if isinstance(pair[1], Dense)]
        for over in filter(None, steps):
            weight = self._weight(over)
            role = f"%{over[0][1].matrix}_mean" if isinstance(over[0][1], Dense) else ""
            between = self.b.emit(Pool("var", mean, over, weight=weight), "%between")
            mean = self.b.emit(Pool("mean", mean, over, weight=weight), role)
            if self.b.constant_value(var) == 0:
                var = between
                continue
            within = self.b.emit(Pool("mean", var, over, weight=weight), "%within")
            var = self.b.map("add", within, between)
        return mean, var

    def _weight(self, over: Aggregation) -> Ref | None:
        """Cells of an index have different counts; all others are alike."""
        for axis, matrix in over:
            cells_of = self.b.space[axis].cells_of
            if isinstance(matrix, Ones) and cells_of and isinstance(cells_of[1], ByIndex):
                return self.b.emit(Count((cells_of,)))
        return None


def _alternatives(program: Program) -> dict[Ref, frozenset[tuple[str, bool]]]:
    """For pools of one value of which no call needs both, the value of the flag that each needs."""
    pools = {let.name: let.op.value for let in program.body if isinstance(let.op, Pool)}
    found: dict[Ref, set[tuple[str, bool]]] = {}
    for flag in choosing_flags(program):
        on, off = (
            reachable_with_flag(program, flag, True),
            reachable_with_flag(program, flag, False),
        )
        sides = {True: (on - off) & pools.keys(), False: (off - on) & pools.keys()}
        apart = {pools[ref] for ref in sides[True]} & {pools[ref] for ref in sides[False]}
        for value, refs in sides.items():
            for ref in refs:
                if pools[ref] in apart:
                    found.setdefault(ref, set()).add((flag, value))
    return {ref: frozenset(sides) for ref, sides in found.items()}


def common_refinement(many: Sequence[Aggregation]) -> Aggregation:
    """The finest pooling that all of them are made of."""
    met = []
    for axis, _ in many[0]:
        matrices = [dict(over).get(axis) for over in many]
        present = [m for m in matrices if m is not None and is_partition(m)]
        if len(present) < len(many):
            continue
        finest = [m for m in present if all(refines(m, other) for other in present)]
        if finest:
            met.append((axis, finest[0]))
    return tuple(met)


def remaining_pool(
    space: Space, over: Aggregation, cells: Aggregation
) -> list[tuple[str, Grouping]]:
    """What is left to pool, on the axes that the statistics of the cells have."""
    fine = dict(cells)
    rest: list[tuple[str, Grouping]] = []
    for axis, matrix in over:
        if axis not in fine:
            rest.append((axis, matrix))
        elif matrix != fine[axis]:
            rest.append((space.cells(axis, fine[axis]), matrix))
    return rest


def _shareable(op: Pool) -> bool:
    plain = op.where is None and op.weight is None and not op.ddof
    known = all(is_partition(m) or isinstance(m, Dense) for _, m in op.over)
    return op.statistic in MOMENTS and plain and known
