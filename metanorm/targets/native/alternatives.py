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
    left = {name: list(definitions) for name, definitions in layouts.items()}
    for shared in [*common, None]:
        cases = []
        for name, definitions in left.items():
            end = len(definitions) if shared is None else definitions.index(shared)
            if own := tuple(definitions[:end]):
                cases.append((name, own))
            del definitions[: end + 1]
        if cases:
            yield Alternatives(tuple(cases))
        if shared is not None:
            yield shared


def _common(layouts: Sequence[Sequence[Definition]]) -> list[Definition]:
    """The definitions that all have, as far as they are in one order."""
    first, *others = layouts
    last = [-1] * len(others)
    common: list[Definition] = []
    for definition in first:
        places = [o.index(definition) if definition in o else -1 for o in others]
        if all(place > before for place, before in zip(places, last)):
            common.append(definition)
            last = places
    return common
