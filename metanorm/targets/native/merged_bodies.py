"""Merge what layouts have alike in part: the fields of structures, the statements of functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any, Generic, TypeVar

from metanorm.targets.native.cir import (
    Definition,
    FieldsInLayouts,
    Function,
    InLayouts,
    Stmt,
    Struct,
)

LEAST_SHARED = 0.3  # of the nodes of a merged function; with less, two functions read better


T = TypeVar("T")


@dataclass
class _Entry(Generic[T]):
    """A statement of a function or a field of a structure, and the layouts that have it."""

    value: T
    layouts: list[str]


def merged(definitions: Mapping[str, Definition]) -> dict[str, Definition]:
    """The definitions that builds have, with one for those of which they are alike for the most
    part."""
    groups: list[tuple[dict[str, Definition], Definition]] = []  # of builds, and what they have
    for name, definition in definitions.items():
        for number, (group, _) in enumerate(groups):
            extended = {**group, name: definition}
            if (joined := _joined(extended)) is not None:
                groups[number] = (extended, joined)
                break
        else:
            groups.append(({name: definition}, definition))
    merged_by_name = {name: definition for group, definition in groups for name in group}
    return {name: merged_by_name[name] for name in definitions}


def _joined(definitions: Mapping[str, Definition]) -> Definition | None:
    """One definition for all builds, if theirs are alike for the most part."""
    first = next(iter(definitions.values()))
    if len(set(definitions.values())) == 1:
        return first
    structs = {name: d for name, d in definitions.items() if isinstance(d, Struct)}
    if isinstance(first, Struct):
        merge = _merged_call if first.is_ordered else _merged_struct
        return merge(first, structs)
    functions = {name: d for name, d in definitions.items() if isinstance(d, Function)}
    return _merged_function(first, functions) if isinstance(first, Function) else None


def _merged_call(first: Struct, structs: Mapping[str, Struct]) -> Struct:
    """The structure with the fields of all in their order, each in the layouts that have it."""
    entries: list[_Entry[tuple[str, str]]] = []
    for build, struct in structs.items():
        entries = _with_values(entries, _single_fields(struct.fields), build)
    fields: list[tuple[str, tuple[str, ...]] | FieldsInLayouts] = []
    for run in _runs(entries, tuple(structs)):
        if isinstance(run, tuple):
            fields += _joined_fields(run)
        else:
            cases = ((builds, tuple(_joined_fields(values))) for builds, values in run)
            fields.append(FieldsInLayouts(tuple(cases)))
    return replace(first, fields=tuple(fields))


def _single_fields(
    fields: Iterable[tuple[str, tuple[str, ...]] | FieldsInLayouts],
) -> list[tuple[str, str]]:
    """Each field with its type."""
    return [(f[0], name) for f in fields if isinstance(f, tuple) for name in f[1]]


def _joined_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """The fields, those of one type that stand side by side together."""
    runs = groupby(fields, lambda field: field[0])
    return [(type_, tuple(name for _, name in run)) for type_, run in runs]


def _merged_struct(first: Struct, structs: Mapping[str, Struct]) -> Struct | None:
    """The structure with the fields of all; `None` if one name has two types. A type that only some
    builds use may be unknown to others, so its fields are for those builds."""
    names_by_kind: dict[tuple[str, bool], dict[str, None]] = {}  # by type, pointers apart
    kinds: dict[str, tuple[str, bool]] = {}
    builds_of_types: dict[str, dict[str, None]] = {}
    for build, struct in structs.items():
        for type_, name in _single_fields(struct.fields):
            kind = (type_, name.startswith("*"))
            names_by_kind.setdefault(kind, {})[name] = None
            builds_of_types.setdefault(type_, {})[build] = None
            if kinds.setdefault(name.lstrip("*"), kind) != kind:
                return None
    fields: list[tuple[str, tuple[str, ...]] | FieldsInLayouts] = []
    for (type_, _), names in names_by_kind.items():
        builds = tuple(builds_of_types[type_])
        of_type = (type_, tuple(names))
        fields.append(
            of_type if len(builds) == len(structs) else FieldsInLayouts(((builds, (of_type,)),))
        )
    return replace(first, fields=tuple(fields))


def _merged_function(first: Function, functions: Mapping[str, Function]) -> Function | None:
    """The function with the statements of all, each in the layouts that have it."""
    if any(replace(f, body=()) != replace(first, body=()) for f in functions.values()):
        return None
    entries: list[_Entry[Stmt]] = []
    for name, function in functions.items():
        entries = _with_values(entries, function.body, name)
    shared = sum(_node_count(e.value) for e in entries if len(e.layouts) == len(functions))
    if shared < LEAST_SHARED * sum(_node_count(e.value) for e in entries):
        return None
    body: list[Stmt] = []
    for run in _runs(entries, tuple(functions)):
        body += run if isinstance(run, tuple) else [InLayouts(tuple(run))]
    return replace(first, body=tuple(body))


def _with_values(entries: Sequence[_Entry[T]], values: Sequence[T], layout: str) -> list[_Entry[T]]:
    """The entries, and the values of one more layout in their order."""
    matcher = SequenceMatcher(None, [e.value for e in entries], values, autojunk=False)
    result: list[_Entry[T]] = []
    for kind, first, end, first_new, end_new in matcher.get_opcodes():
        if kind == "equal":
            result += [_Entry(e.value, [*e.layouts, layout]) for e in entries[first:end]]
        else:
            result += entries[first:end]
            result += [_Entry(value, [layout]) for value in values[first_new:end_new]]
    return result


def _runs(
    entries: Iterable[_Entry[T]], layouts: tuple[str, ...]
) -> list[tuple[T, ...] | list[tuple[tuple[str, ...], tuple[T, ...]]]]:
    """The values in order: those that all layouts have, and cases of what some have alone."""
    runs: list[tuple[T, ...] | list[tuple[tuple[str, ...], tuple[T, ...]]]] = []
    for names, run in groupby(entries, lambda e: tuple(e.layouts)):
        values = tuple(e.value for e in run)
        if names == layouts:
            runs.append(values)
            continue
        before = runs[-1] if runs else ()
        if isinstance(before, list) and set(names).isdisjoint(n for c in before for n in c[0]):
            before.append((names, values))
        else:
            runs.append([(names, values)])
    return runs


def _node_count(node: Any) -> int:
    """The size of a statement: the number of its nodes in the C tree."""
    if isinstance(node, tuple):
        return sum(map(_node_count, node))
    if not is_dataclass(node):
        return 0
    return 1 + sum(_node_count(getattr(node, field.name)) for field in dataclasses.fields(node))
