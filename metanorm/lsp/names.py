"""Where names are introduced and used, and what changes where one is renamed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from metanorm.diagnostics.model import Severity
from metanorm.findings import findings
from metanorm.frontend import LIBRARY
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.ops import CALLABLE
from metanorm.lsp.project import Project, View
from metanorm.resources import resource
from metanorm.semantics.names_in_ast import names_in
from metanorm.semantics.symbols import WORDS, Occurrence, Role
from metanorm.source import Span, apply_edits
from metanorm.syntax.grammar import RESERVED_WORDS
from metanorm.workspace import load

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CannotRename(Exception):
    """Why a name stays as it is, as a sentence."""


def definition(project: Project, view: View, offset: int) -> list[Span]:
    """Where the name at a place is introduced; behind `use`, the beginning of the file."""
    for use, found in view.used():
        if use.span.start <= offset <= use.span.end:
            return [Span(found, 0, 0)]
    occurrence = view.at(offset)
    if occurrence is None:
        return []
    if occurrence.symbol.role is Role.UNKNOWN:
        return _clause_spans(view, occurrence)
    found_symbol = project.symbol(view, occurrence)
    if found_symbol is None:
        return []
    home, symbol = found_symbol
    introduced = (o for o in project.view(home).occurrences if o.symbol == symbol)
    return [o.span for o in introduced if o.introduces]


def _clause_spans(view: View, occurrence: Occurrence) -> list[Span]:
    """The clause that introduces a name such as `mean`, `normalized` or `weight`."""
    norm = view.norm_at(occurrence.span.start)
    name = occurrence.symbol.name
    if norm is None or name not in view.values(norm.name.name):
        return []
    kinds = ("affine",) if name in ("weight", "bias") else ("reduce", "mix")
    found = [s for s in norm.statements if s.kind in kinds]
    return [Span(s.span.source, s.span.start, s.span.start + len(s.kind)) for s in found[:1]]


def references(project: Project, view: View, offset: int) -> list[Occurrence]:
    """Every place of the name at a place."""
    occurrence = view.at(offset)
    if occurrence is None:
        return []
    found = project.symbol(view, occurrence)
    if found is None:
        return [o for o in view.occurrences if o.symbol == occurrence.symbol]
    return [o for places in project.occurrences(*found).values() for o in places]


def highlights(view: View, offset: int) -> list[Occurrence]:
    """Every place of the name at a place, in this text."""
    occurrence = view.at(offset)
    symbol = occurrence.symbol if occurrence is not None else None
    return [o for o in view.occurrences if o.symbol == symbol]


def renamable_name(project: Project, view: View, offset: int) -> Occurrence:
    """The name at a place. Raises `CannotRename` where there is none, or it cannot change."""
    occurrence = view.at(offset)
    if occurrence is None:
        raise CannotRename("there is no name here")
    symbol = occurrence.symbol
    if symbol.role in WORDS:
        raise CannotRename(f"`{symbol.name}` is a word of the language")
    found = project.symbol(view, occurrence)
    if found is None:
        raise CannotRename(f"nothing introduces `{symbol.name}`")
    home, symbol = found
    places = project.view(home).occurrences
    if not any(o.introduces for o in places if o.symbol == symbol):
        raise CannotRename(f"a clause introduces `{symbol.name}`: it has no other name")
    if home.startswith(LIBRARY):
        raise CannotRename(f"`{symbol.name}` belongs to the library of metanorm")
    return occurrence


def rename(project: Project, view: View, offset: int, new: str) -> dict[str, list[Span]]:
    """The places, by source, that become `new`. Raises `CannotRename`.

    Every norm must compute what it did: that is compared, for the new name may be one that a
    clause reads, or a word that means something where the old one stood.
    """
    occurrence = renamable_name(project, view, offset)
    if not NAME.fullmatch(new) or new in RESERVED_WORDS:
        raise CannotRename(f"`{new}` cannot be a name")
    found = project.symbol(view, occurrence)
    assert found is not None, "a name that is renamable has a symbol"
    places = project.occurrences(*found)
    if new == occurrence.symbol.name:
        return {}
    home, symbol = found
    names = places if symbol.role is Role.NORM else (home,)
    if any(new in _names_in_use(project.view(name), symbol.norm) for name in names):
        raise CannotRename(f"`{new}` is a name already")
    spans = {name: [o.span for o in found] for name, found in places.items()}
    callers = project.callers(home, symbol.norm) if symbol.role is Role.AXIS else []
    _require_same_meaning(
        project, spans, callers, new
    )  # axes of two norms are matched by their names
    return spans


def _names_in_use(view: View, norm: str) -> set[str]:
    """Names in the text of a norm, and in the equations that it stands for; or those of norms."""
    if not norm:
        called = (o.symbol for o in view.occurrences if o.symbol.role is Role.NORM)
        return {*CALLABLE, *(symbol.name for symbol in called)}
    found = {o.symbol.name for o in view.occurrences if o.norm == norm}
    for checked in view.checked:
        if checked.norm.name.name == norm:
            found |= set(names_in(checked.equations))
    return found


def _require_same_meaning(
    project: Project, spans: Mapping[str, Sequence[Span]], callers: Sequence[str], new: str
) -> None:
    """Raise `CannotRename` where the specs with the new name mean something else."""
    views = {name: project.view(name) for name in (*spans, *callers)}
    texts = dict(project.texts)
    for name in spans:
        text = views[name].findings.workspace.texts[name]
        texts[name] = apply_edits(text, [(span, new) for span in spans[name]])
    for name, view in views.items():
        after = View(name, findings(load([name], texts=texts)))
        if _meaning(after) != _meaning(view):
            errors = _error_messages(after)
            reason = (
                errors[0] if len(errors) > len(_error_messages(view)) else "a norm would change"
            )
            raise CannotRename(f"it cannot be called `{new}`: {reason}")


def _meaning(view: View) -> tuple[object, ...]:
    """What the norms of a spec compute, and how many mistakes there are of each code."""
    codes = sorted(d.code for d in view.findings.diagnostics)
    return codes, [fingerprint(norm.program) for norm in view.checked]


def _error_messages(view: View) -> list[str]:
    found = view.findings.diagnostics
    return [d.message for d in found if d.severity is Severity.ERROR]


def path_of_source(name: str) -> str:
    """The file of a source; one of the library lies where metanorm is installed."""
    if name.startswith(LIBRARY):
        return (resource("specs") / name.removeprefix(LIBRARY)).as_posix()
    return name
