"""Definitions and references of names, and renaming."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from metanorm.diagnostics.model import Severity
from metanorm.findings import findings
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.ops import CALLABLE
from metanorm.lsp.project import Project, View
from metanorm.resources import LIBRARY, resource
from metanorm.semantics.names_in_ast import names_in, nodes_in
from metanorm.semantics.symbols import WORDS, Occurrence, Role
from metanorm.source import Span, apply_edits
from metanorm.syntax import ast
from metanorm.syntax.grammar import RESERVED_WORDS
from metanorm.workspace import load

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CannotRename(Exception):
    """A name cannot be renamed; the message says why."""


def definition(project: Project, view: View, offset: int) -> list[Span]:
    """The spans that introduce the name at an offset; for a `use`, the start of the used file."""
    for use, used_source in view.used():
        if use.span.start <= offset <= use.span.end:
            return [Span(used_source, 0, 0)]
    occurrence = view.at(offset)
    if occurrence is None:
        return []
    if occurrence.symbol.role is Role.UNKNOWN:
        return _clause_spans(view, occurrence)
    home_and_symbol = project.symbol(view, occurrence)
    if home_and_symbol is None:
        return []
    home, symbol = home_and_symbol
    introduced = (o for o in project.view(home).occurrences if o.symbol == symbol)
    return [o.span for o in introduced if o.introduces]


def _clause_spans(view: View, occurrence: Occurrence) -> list[Span]:
    """The clause or the form that introduces a name such as `mean`, `normalized` or `weight`."""
    norm = view.norm_at(occurrence.span.start)
    name = occurrence.symbol.name
    if norm is not None and name in view.buffers(norm.name.name):
        tracks = (n for n in nodes_in(norm.statements) if isinstance(n, (ast.Track, ast.Tracked)))
        starts = (view.source.text.rfind("track", 0, n.span.start + len("track")) for n in tracks)
        return [Span(view.name, start, start + len("track")) for start in starts][:1]
    if norm is None or name not in view.values(norm.name.name):
        return []
    kinds = ("affine",) if name in ("weight", "bias") else ("reduce", "mix")
    clauses = [s for s in norm.statements if s.kind in kinds]
    spans = [Span(s.span.source, s.span.start, s.span.start + len(s.kind)) for s in clauses]
    calls = (n.function for n in nodes_in(norm.statements) if isinstance(n, ast.Call))
    spans += (function.span for function in calls if function.name in kinds)
    return spans[:1]


def references(project: Project, view: View, offset: int) -> list[Occurrence]:
    """All occurrences of the name at an offset, in all sources."""
    occurrence = view.at(offset)
    if occurrence is None:
        return []
    home_and_symbol = project.symbol(view, occurrence)
    if home_and_symbol is None:
        return [o for o in view.occurrences if o.symbol == occurrence.symbol]
    return [
        o for occurrences in project.occurrences(*home_and_symbol).values() for o in occurrences
    ]


def highlights(view: View, offset: int) -> list[Occurrence]:
    """All occurrences of the name at an offset, in this text."""
    occurrence = view.at(offset)
    symbol = occurrence.symbol if occurrence is not None else None
    return [o for o in view.occurrences if o.symbol == symbol]


def renamable_name(project: Project, view: View, offset: int) -> Occurrence:
    """The name at an offset. Raises `CannotRename` if there is none, or it cannot be renamed."""
    occurrence = view.at(offset)
    if occurrence is None:
        raise CannotRename("there is no name here")
    symbol = occurrence.symbol
    if symbol.role in WORDS:
        raise CannotRename(f"`{symbol.name}` is a word of the language")
    home_and_symbol = project.symbol(view, occurrence)
    if home_and_symbol is None:
        raise CannotRename(f"nothing introduces `{symbol.name}`")
    home, symbol = home_and_symbol
    occurrences = project.view(home).occurrences
    if not any(o.introduces for o in occurrences if o.symbol == symbol):
        raise CannotRename(f"a clause introduces `{symbol.name}`: it has no other name")
    if home.startswith(LIBRARY):
        raise CannotRename(f"`{symbol.name}` belongs to the library of metanorm")
    return occurrence


def rename(project: Project, view: View, offset: int, new: str) -> dict[str, list[Span]]:
    """The spans, by source, that become `new`. Raises `CannotRename`.

    Every norm must compute the same afterwards. That is checked, since a clause may read the new
    name, or the new name may be a word of the language at some position.
    """
    occurrence = renamable_name(project, view, offset)
    if not NAME.fullmatch(new) or new in RESERVED_WORDS:
        raise CannotRename(f"`{new}` cannot be a name")
    home_and_symbol = project.symbol(view, occurrence)
    assert home_and_symbol is not None, "a name that is renamable has a symbol"
    occurrences = project.occurrences(*home_and_symbol)
    if new == occurrence.symbol.name:
        return {}
    home, symbol = home_and_symbol
    sources = occurrences if symbol.role is Role.NORM else (home,)
    if any(new in _names_in_use(project.view(name), symbol.norm) for name in sources):
        raise CannotRename(f"`{new}` is a name already")
    spans = {name: [o.span for o in of_source] for name, of_source in occurrences.items()}
    # Calls match axes of two norms by name.
    callers = project.callers(home, symbol.norm) if symbol.role is Role.AXIS else []
    _require_same_meaning(project, spans, callers, new)
    return spans


def _names_in_use(view: View, norm: str) -> set[str]:
    """The names in the text and in the equations of a norm; without one, the names of norms."""
    if not norm:
        norm_symbols = (o.symbol for o in view.occurrences if o.symbol.role is Role.NORM)
        return {*CALLABLE, *(symbol.name for symbol in norm_symbols)}
    names = {o.symbol.name for o in view.occurrences if o.norm == norm}
    for checked in view.checked:
        if checked.norm.name.name == norm:
            names |= set(names_in(checked.equations))
    return names


def _require_same_meaning(
    project: Project, spans: Mapping[str, Sequence[Span]], callers: Sequence[str], new: str
) -> None:
    """Raise `CannotRename` if the specs with the new name compute something else."""
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
    """The fingerprints of the norms of a spec, and the codes of its diagnostics."""
    codes = sorted(d.code for d in view.findings.diagnostics)
    return codes, [fingerprint(norm.program) for norm in view.checked]


def _error_messages(view: View) -> list[str]:
    diagnostics = view.findings.diagnostics
    return [d.message for d in diagnostics if d.severity is Severity.ERROR]


def path_of_source(name: str) -> str:
    """The path of a source; a source of the library is in the installation of metanorm."""
    if name.startswith(LIBRARY):
        return (resource("specs") / name.removeprefix(LIBRARY)).as_posix()
    return name
