"""Merge what layouts have alike in part: the fields of structures, the statements of functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from metanorm.targets.native.cir import Definition, Function, InLayouts, Stmt, Struct

LEAST_SHARED = 0.5  # of the nodes of a merged function; with less, two functions read better


@dataclass
class _Entry:
    """A statement, and the layouts that have it."""

    statement: Stmt
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
    structs = [d for d in definitions.values() if isinstance(d, Struct)]
    if isinstance(first, Struct) and not first.is_ordered:
        return _merged_struct(first, structs)
    functions = {name: d for name, d in definitions.items() if isinstance(d, Function)}
    return _merged_function(first, functions) if isinstance(first, Function) else None


def _merged_struct(first: Struct, structs: Iterable[Struct]) -> Struct | None:
    """The structure with the fields of all; `None` if one name has two types."""
    names_by_kind: dict[tuple[str, bool], dict[str, None]] = {}  # by type, pointers apart
    kinds: dict[str, tuple[str, bool]] = {}
    for struct in structs:
        for type_, names in struct.fields:
            kind = (type_, names[0].startswith("*"))
            names_by_kind.setdefault(kind, {}).update(dict.fromkeys(names))
            if any(kinds.setdefault(name.lstrip("*"), kind) != kind for name in names):
                return None
    fields = ((type_, tuple(names)) for (type_, _), names in names_by_kind.items())
    return replace(first, fields=tuple(fields))


def _merged_function(first: Function, functions: Mapping[str, Function]) -> Function | None:
    """The function with the statements of all, each in the layouts that have it."""
    if any(replace(f, body=()) != replace(first, body=()) for f in functions.values()):
        return None
    entries: list[_Entry] = []
    for name, function in functions.items():
        entries = _with_body(entries, function.body, name)
    shared = sum(_node_count(e.statement) for e in entries if len(e.layouts) == len(functions))
    if shared < LEAST_SHARED * sum(_node_count(e.statement) for e in entries):
        return None
    return replace(first, body=tuple(_statements(entries, tuple(functions))))


def _with_body(entries: Sequence[_Entry], body: Sequence[Stmt], layout: str) -> list[_Entry]:
    """The entries, and the statements of one more layout in their order."""
    matcher = SequenceMatcher(None, [e.statement for e in entries], body, autojunk=False)
    result: list[_Entry] = []
    for kind, first, end, first_new, end_new in matcher.get_opcodes():
        if kind == "equal":
            result += [_Entry(e.statement, [*e.layouts, layout]) for e in entries[first:end]]
        else:
            result += entries[first:end]
            result += [_Entry(statement, [layout]) for statement in body[first_new:end_new]]
    return result


def _statements(entries: Iterable[_Entry], layouts: tuple[str, ...]) -> list[Stmt]:
    """The statements; what some layouts have alone stands in `InLayouts`."""
    statements: list[Stmt] = []
    for names, run in groupby(entries, lambda e: tuple(e.layouts)):
        body = tuple(e.statement for e in run)
        if names == layouts:
            statements += body
            continue
        case = (names, body)
        before = statements[-1] if statements else None
        if isinstance(before, InLayouts) and set(names).isdisjoint(
            n for c in before.cases for n in c[0]
        ):
            statements[-1] = InLayouts((*before.cases, case))
        else:
            statements.append(InLayouts((case,)))
    return statements


def _node_count(node: Any) -> int:
    """The size of a statement: the number of its nodes in the C tree."""
    if isinstance(node, tuple):
        return sum(map(_node_count, node))
    if not is_dataclass(node):
        return 0
    return 1 + sum(_node_count(getattr(node, field.name)) for field in dataclasses.fields(node))
