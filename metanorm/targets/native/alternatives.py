"""Merge the definitions of a kernel's layouts: shared ones once, others behind `#if defined`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from metanorm.targets.native.cir import (
    Alternatives,
    Definition,
    Enum,
    Function,
    Guarded,
    Include,
    Struct,
)
from metanorm.targets.native.merged_bodies import merged

# The definition that each layout has at one place of the file; a layout may have none.
Slot = dict[str, Definition]


def with_alternatives(layouts: Mapping[str, Sequence[Definition]]) -> Iterator[Definition]:
    """The merged definitions. `layouts` has those of each layout, by the macro that selects it.

    A definition appears once for all layouts that have it alike. What some layouts have otherwise
    becomes `Alternatives`.
    """
    for is_shared, slots in groupby(
        map(merged, _slots(layouts)), lambda s: _sharing([s]) == [tuple(layouts)]
    ):
        if is_shared:
            yield from (next(iter(slot.values())) for slot in slots)
        else:
            yield from (_alternatives(block) for block in _blocks(slots))


def _blocks(slots: Iterable[Slot]) -> list[list[Slot]]:
    """The slots that are alternatives together: those that the same layouts share. Constants go
    with the functions beside them, since directives of their own would be longer; but no function
    is there twice for their sake."""
    blocks: list[list[Slot]] = []
    for slot in slots:
        if blocks and _belong_together([*blocks[-1], slot]):
            blocks[-1].append(slot)
        else:
            blocks.append([slot])
    return blocks


def _belong_together(block: Sequence[Slot]) -> bool:
    """Whether slots make no more cases together than each one that is long; or than the others or
    the last one do, if none is."""
    layouts = _layouts(block)
    together = _sharing(block, layouts)
    long = [slot for slot in block if _is_long(slot)]
    if long:
        return all(_sharing([slot], layouts) == together for slot in long)
    return any(len(_sharing(part, layouts)) == len(together) for part in (block[:-1], block[-1:]))


def _alternatives(block: Sequence[Slot]) -> Alternatives:
    return Alternatives(
        tuple(
            (names, tuple(slot[names[0]] for slot in block if names[0] in slot))
            for names in _sharing(block)
        )
    )


def _sharing(block: Sequence[Slot], layouts: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """The layouts of a block, those with the same definitions together."""
    cases: dict[tuple[Definition | None, ...], tuple[str, ...]] = {}
    for name in layouts or _layouts(block):
        definitions = tuple(slot.get(name) for slot in block)
        cases[definitions] = (*cases.get(definitions, ()), name)
    return list(cases.values())


def _layouts(block: Iterable[Slot]) -> list[str]:
    """The layouts that have any definition of a block."""
    return [*dict.fromkeys(name for slot in block for name in slot)]


def _is_long(slot: Slot) -> bool:
    """Whether definitions have many lines, unlike constants."""
    return any(isinstance(definition, (Function, Struct)) for definition in slot.values())


def _slots(layouts: Mapping[str, Sequence[Definition]]) -> Iterator[Slot]:
    """Definitions of one name side by side, in an order that is that of every layout."""
    remaining = {name: list(definitions) for name, definitions in layouts.items() if definitions}
    while remaining:
        heads = {name: definitions[0] for name, definitions in remaining.items()}
        waiting = {_key(d) for definitions in remaining.values() for d in definitions[1:]}
        keys = [_key(head) for head in heads.values()]
        # Where layouts disagree about the order, the first one goes on alone.
        key = next((key for key in keys if key not in waiting), None)
        slot = {name: head for name, head in heads.items() if key in (_key(head), None)}
        if key is None:
            slot = dict([next(iter(slot.items()))])
        yield slot
        for name in slot:
            del remaining[name][0]
        remaining = {name: definitions for name, definitions in remaining.items() if definitions}


def _key(definition: Definition) -> tuple[str, str]:
    """What is one definition in all layouts: its kind and name."""
    match definition:
        case Include(file):
            name = file
        case Enum():
            name = ""
        case Alternatives() | Guarded():
            raise AssertionError("alternatives and sections are made of definitions")
        case _:
            name = definition.name
    return type(definition).__name__, name
