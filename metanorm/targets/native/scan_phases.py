"""Divide a sweep with scans into phases, each of which passes over a tile and stores what its scans
and later phases read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from metanorm.ir.index import closure
from metanorm.ir.nodes import Let, Map, Op, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.ir.ops import CHEAP_FUNCTIONS
from metanorm.nest.nest import Block, Nest


@dataclass(frozen=True)
class Phase:
    """One pass over a tile: the wide values that it stores, then scans, each with its results."""

    stored: tuple[Ref, ...]
    scans: tuple[tuple[Ref, ...], ...]

    @property
    def tiled(self) -> tuple[Ref, ...]:
        """All values that are in memory from then on."""
        return (*self.stored, *(ref for results in self.scans for ref in results))


def scan_phases(nest: Nest, sweep: Block) -> tuple[Phase, ...]:
    """The phases of a sweep before the last one, which reads the results of all scans."""
    return _Phases(nest, sweep).run()


class _Phases:
    def __init__(self, nest: Nest, sweep: Block) -> None:
        self.lets = {let.name: let for let in sweep.lets}
        self.scans = {scan.let.name for scan in sweep.scans}
        # How many scans a value waits for, itself included.
        self.level: dict[Ref, int] = {}
        for let in sweep.lets:
            level = max((self.level[ref] for ref in self._wide(operands(let.op))), default=0)
            self.level[let.name] = level + (let.name in self.scans)
        reductions = [nest.reductions[number] for number in sweep.measures]
        read = [x for r in reductions for x in (r.value, r.where, r.weight) if x is not None]
        self.last_goals = self._wide([*read, *(ref for _, ref in sweep.writes)])

    def run(self) -> tuple[Phase, ...]:
        """Each phase stores what its scans read, and what later ones would compute again."""
        count = max(self.level.values())
        scans = [tuple(self._scans_of(level)) for level in range(1, count + 1)]
        goals = [
            self._wide(ref for results in of_level for ref in operands(self.lets[results[0]].op))
            for of_level in scans
        ]
        goals.append(self.last_goals)
        tiled = set(self.scans)
        phases: list[Phase] = []
        for number, of_level in enumerate(scans):
            stored = {ref for ref in goals[number] if ref not in tiled}
            later = [ref for further in goals[number + 1 :] for ref in further]
            computed = self._computed(goals[number], tiled)
            # Backward: what only a stored value is made of is not computed again.
            for let in reversed(self.lets.values()):
                costly = let.name in computed and _is_costly(let)
                if costly and let.name in self._computed(later, tiled | stored):
                    stored.add(let.name)
            tiled |= stored
            phases.append(Phase(tuple(ref for ref in self.lets if ref in stored), of_level))
        return tuple(phases)

    def _wide(self, refs: Iterable[Ref]) -> list[Ref]:
        return [ref for ref in refs if ref in self.lets]

    def _scans_of(self, level: int) -> Iterator[tuple[Ref, ...]]:
        """The scans that wait for so many; a mean and a variance of the same values are one."""
        by_values: dict[Op, list[Ref]] = {}
        for ref, let in self.lets.items():
            if ref in self.scans and self.level[ref] == level:
                op = let.op
                if isinstance(op, Pool) and op.statistic in ("mean", "var"):
                    op = replace(op, statistic="moments")
                by_values.setdefault(op, []).append(ref)
        yield from map(tuple, by_values.values())

    def _computed(self, goals: Iterable[Ref], tiled: Collection[Ref]) -> set[Ref]:
        """What has to be computed for some values, if others are in memory."""

        def reads(ref: Ref) -> Iterator[Ref]:
            return (r for r in self._wide(operands(self.lets[ref].op)) if r not in tiled)

        return closure((ref for ref in goals if ref not in tiled), reads)


def _is_costly(let: Let) -> bool:
    return isinstance(let.op, Map) and let.op.function not in CHEAP_FUNCTIONS
