"""Which bindings are needed in one mode only, so that they are computed there alone."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal, NamedTuple

from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.index import closure
from metanorm.ir.nodes import Let, Mode, Program, Ref
from metanorm.ir.operands import operands
from metanorm.ir.reachable import indices


class Place(NamedTuple):
    """An arm of the modes of one kind: those that keep running statistics, or plain ones; or of
    all choices by one flag, whose kind is the flag."""

    kind: str
    arm: Literal["train", "eval", "then", "else"]


def kind_of(mode: Mode) -> Literal["track", "mode"]:
    """Whether a mode chooses by running statistics or by the training flag alone."""
    return "track" if mode.buffer else "mode"


def places(program: Program) -> dict[Ref, Place | None]:
    """The arm to which each binding belongs; `None` for what is needed in any case."""
    tracked = {b.name for b in program.buffers if b.tracked}
    ops, flags = program.index.ops, flags_of(program)
    wanted: dict[Ref, set[Place | None]] = {let.name: set() for let in program.body}
    for _, ref in program.outputs:
        wanted[ref].add(None)
    for update in program.updates:
        kind = "track" if update.buffer in tracked else "mode"
        place = None if update.when == "always" else Place(kind, update.when)
        for ref in filter(None, (update.value, update.elements)):
            wanted[ref].add(place)
    found: dict[Ref, Place | None] = {}
    for let in reversed(program.body):
        uses = wanted[let.name]
        place = next(iter(uses)) if len(uses) == 1 else None
        found[let.name] = place
        if isinstance(let.op, Mode):
            kind = kind_of(let.op)
            wanted[let.op.train].add(Place(kind, "train") if place is None else place)
            wanted[let.op.eval].add(Place(kind, "eval") if place is None else place)
            continue
        if place is None and flag_of(let.op, ops, flags):
            condition, first, second = operands(let.op)
            wanted[condition].add(None)
            wanted[first].add(Place(condition, "then"))
            wanted[second].add(Place(condition, "else"))
            continue
        for ref in (*operands(let.op), *indices(let.op)):
            wanted[ref].add(place)
    return found


def needed_by(
    refs: Iterable[Ref], lets: dict[Ref, Let], there: Container[Ref] = frozenset()
) -> set[Ref]:
    """The bindings on which `refs` depend, themselves included, but for those that are `there`."""

    def computed(some: Iterable[Ref]) -> list[Ref]:
        return [ref for ref in some if ref in lets and ref not in there]

    def read(ref: Ref) -> list[Ref]:
        return computed((*operands(lets[ref].op), *indices(lets[ref].op)))

    return closure(computed(refs), read)
