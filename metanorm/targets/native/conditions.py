"""The conditions of `#if`: which builds a text is for, by as few macros as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metanorm.targets.native.cir import (
    Alternatives,
    Definition,
    FieldsInLayouts,
    Function,
    InLayouts,
    Stmt,
    Struct,
)

# A build is named by the two macros that it defines, with a space between: section and layout.


def with_conditions(definitions: Iterable[Definition], builds: Sequence[str]) -> list[Definition]:
    """The definitions with the builds of alternatives named by as few macros as possible."""
    return [_definition(d, builds) for d in definitions]


def _definition(d: Definition, builds: Sequence[str]) -> Definition:
    if isinstance(d, Alternatives):
        cases = (
            (simplified(of_case, builds), tuple(with_conditions(inner, of_case)))
            for of_case, inner in d.cases
        )
        return Alternatives(tuple(cases))
    if isinstance(d, Struct):
        return replace(d, fields=tuple(_fields(f, builds) for f in d.fields))
    if isinstance(d, Function):
        return replace(d, body=tuple(_statement(s, builds) for s in d.body))
    return d


def _fields(
    fields: tuple[str, tuple[str, ...]] | FieldsInLayouts, builds: Sequence[str]
) -> tuple[str, tuple[str, ...]] | FieldsInLayouts:
    if not isinstance(fields, FieldsInLayouts):
        return fields
    return FieldsInLayouts(
        tuple((simplified(of_case, builds), inner) for of_case, inner in fields.cases)
    )


def _statement(s: Stmt, builds: Sequence[str]) -> Stmt:
    if not isinstance(s, InLayouts):
        return s
    return InLayouts(tuple((simplified(of_case, builds), body) for of_case, body in s.cases))


def simplified(chosen: Sequence[str], builds: Sequence[str]) -> tuple[str, ...]:
    """Macros of which a build defines one if, and only if, it is chosen among all these builds."""
    by_layout, by_section = (_distinguishing(number, chosen, builds) for number in (1, 0))
    return min(by_layout, by_section, key=lambda macros: (len(macros), " ".join(macros).count(" ")))


def _distinguishing(number: int, chosen: Sequence[str], builds: Sequence[str]) -> tuple[str, ...]:
    """The macros at this place that only chosen builds define; the other builds in full."""
    macros = dict.fromkeys(build.split()[number] for build in chosen)
    others = {build.split()[number] for build in builds if build not in chosen}
    alone = [macro for macro in macros if macro not in others]
    left = (build for build in chosen if build.split()[number] in others)
    return (*alone, *left)


def condition_text(names: Sequence[str]) -> str:
    """The condition of builds that are named by one macro or by two: what layouts have in common
    stands there once, as in `(defined A || defined B) && defined S`."""
    sections_by_layout: dict[str, list[str]] = {}  # macros that are enough alone have no layout
    for name in names:
        macro, _, layout = name.partition(" ")
        sections_by_layout.setdefault(layout, []).append(macro)
    layouts_by_sections: dict[tuple[str, ...], list[str]] = {}
    for layout, sections in sections_by_layout.items():
        layouts_by_sections.setdefault(tuple(sections), []).append(layout)
    terms: list[str] = []
    for macros, layouts in layouts_by_sections.items():
        if "" in layouts:
            terms.append(_any_of(macros))
        else:
            factors = (_any_of(macros), _any_of(layouts))
            terms.append(" && ".join(f"({f})" if "||" in f else f for f in factors))
    if len(terms) > 1:
        terms = [f"({term})" if "&&" in term else term for term in terms]
    return " || ".join(terms)


def _any_of(macros: Sequence[str]) -> str:
    return " || ".join(f"defined {macro}" for macro in macros)
