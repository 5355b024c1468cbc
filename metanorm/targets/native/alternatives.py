"""The same kernel for several layouts of the data, with what they have in common once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from metanorm.targets.native.cir import Alternatives, Definition


def with_alternatives(layouts: Mapping[str, Sequence[Definition]]) -> Iterator[Definition]:
    """The definitions of all layouts, by the name that is defined where one of them is meant.

    What all layouts have is there once, in the order that they have it in. What lies between is
    there for each of them.
    """
    common = _common(list(layouts.values()))
    if len(layouts) == 1:
        yield from common
        return
    remaining = {name: list(definitions) for name, definitions in layouts.items()}
    for definition in [*common, None]:
        cases = []
        for name, definitions in remaining.items():
            end = len(definitions) if definition is None else definitions.index(definition)
            if specific := tuple(definitions[:end]):
                cases.append((name, specific))
            del definitions[: end + 1]
        if cases:
            yield Alternatives(tuple(cases))
        if definition is not None:
            yield definition


def _common(layouts: Sequence[Sequence[Definition]]) -> list[Definition]:
    """The definitions that all have, as far as they are in one order."""
    first, *other_layouts = layouts
    last_positions = [-1] * len(other_layouts)
    common: list[Definition] = []
    for definition in first:
        positions = [
            other.index(definition) if definition in other else -1 for other in other_layouts
        ]
        if all(position > previous for position, previous in zip(positions, last_positions)):
            common.append(definition)
            last_positions = positions
    return common
