"""Merge the definitions of a kernel's layouts: shared ones once, others behind `#if defined`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from metanorm.targets.native.cir import Alternatives, Definition


def with_alternatives(layouts: Mapping[str, Sequence[Definition]]) -> Iterator[Definition]:
    """The merged definitions. `layouts` has those of each layout, by the macro that selects it.

    A definition that all layouts have in the same order appears once. The definitions between two
    shared ones become `Alternatives`.
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
    """The definitions that all layouts have in the same order."""
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
