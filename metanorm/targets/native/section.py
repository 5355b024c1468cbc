"""When narrow values are computed: at the beginning, with their islands, or at the end."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from metanorm.ir.nodes import Let, Ref
from metanorm.ir.operands import operands
from metanorm.plan.sweeps import Plan, Reduction


@dataclass(frozen=True)
class Section:
    """Narrow values that are computed together, after some reductions; `ranged` where they
    belong to islands."""

    lets: tuple[Let, ...]
    reductions: tuple[tuple[int, Reduction], ...] = ()
    ranged: bool = False


def sections(plan: Plan) -> list[Section]:
    """At the beginning, before the sweeps, after each of them, and at the end.

    What belongs to islands is computed with them, by the worker that has them in its cache.
    """
    begin, before = _opening(plan)
    after, finish = _closing(plan)
    sections = [Section(begin), Section(before, ranged=True)]
    number = 0
    late = []
    for sweep in plan.sweeps:
        mine = [(number + i, r) for i, r in enumerate(sweep.reductions)]
        number += len(mine)
        feeding = tuple((n, r) for n, r in mine if not r.terminal)
        late += [(n, r) for n, r in mine if r.terminal]
        more = after if sweep is plan.sweeps[-1] else ()
        sections.append(Section((*sweep.narrow, *more), feeding, ranged=True))
    sections.append(Section(finish, tuple(late)))
    return sections


def _opening(plan: Plan) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
    """Of the values before all sweeps, those of all islands together, and the rest."""
    lets = plan.prologue
    shared = {let.name for let in lets if not _of_islands(plan, let)}
    for let in reversed(lets):
        if let.name in shared:
            shared.update(operands(let.op))
    return _parted(lets, shared)


def _closing(plan: Plan) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
    """Of the values after all sweeps, those of islands, and those that wait for all."""
    lets = plan.epilogue
    waiting = {ref for s in plan.sweeps for r in s.reductions if r.terminal for _, ref in r.results}
    for let in lets:
        if not _of_islands(plan, let) or waiting.intersection(operands(let.op)):
            waiting.add(let.name)
    last, own = _parted(lets, waiting)
    return own, last


def _of_islands(plan: Plan, let: Let) -> bool:
    islands = set(plan.islands)
    return bool(islands) and islands <= set(let.type.axes)


def read_elsewhere(plan: Plan) -> set[Ref]:
    """Narrow values that sweeps, outputs or updates read."""
    wide = {let.name for sweep in plan.sweeps for let in sweep.maps}
    kept = {ref for _, ref in plan.program.outputs} | {u.value for u in plan.program.updates}
    for sweep in plan.sweeps:
        for let in sweep.maps:
            kept |= {r for r in operands(let.op) if r not in wide}
        for r in sweep.reductions:
            kept |= {x for x in (r.value, r.where, r.weight) if x is not None}
    return kept


def _parted(lets: Sequence[Let], named: Container[Ref]) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
    """Those that are named, and those that are not, each in order."""
    return tuple(x for x in lets if x.name in named), tuple(x for x in lets if x.name not in named)
