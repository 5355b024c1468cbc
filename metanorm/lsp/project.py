"""The specs of an editor: open documents, which replace files on disk."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metanorm.findings import Findings, findings
from metanorm.frontend import CheckedNorm, parsed_source, resolve_use
from metanorm.resources import LIBRARY, resource
from metanorm.semantics.ir_from_ast import NamedValue
from metanorm.semantics.occurrences import occurrences
from metanorm.semantics.symbols import Occurrence, Role, Symbol, introduced
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.workspace import load

MAX_FILES = 2000  # of the folders of an editor that are searched for a name


@dataclass(frozen=True)
class View:
    """One spec that an editor shows: its text, its checked norms, and its diagnostics."""

    name: str
    findings: Findings

    @property
    def source(self) -> Source:
        """The text; empty where it cannot be read."""
        return self.sources.get(self.name) or Source.of(self.name, "")

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources of the text and of all files that it uses."""
        return self.findings.workspace.sources

    @cached_property
    def file(self) -> ast.File:
        """The syntax tree."""
        return parsed_source(self.source)[0].file

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """Every name of the text."""
        return occurrences(self.source, parsed_source(self.source)[0])

    @property
    def checked(self) -> list[CheckedNorm]:
        """The norms without errors."""
        return self.findings.checked.norms.get(self.name, [])

    def values(self, norm: str) -> Mapping[str, NamedValue]:
        """The values of a norm by name; incomplete for a norm with errors."""
        return self.findings.checked.values.get((self.name, norm), {})

    def buffers(self, norm: str) -> tuple[str, ...]:
        """The buffers of a norm, also those of its clauses; none for a norm with errors."""
        programs = (c.program for c in self.checked if c.norm.name.name == norm)
        return tuple(buffer.name for program in programs for buffer in program.buffers)

    def at(self, offset: int) -> Occurrence | None:
        """The name at an offset, or the name that ends there."""
        touching = [o for o in self.occurrences if o.span.start <= offset <= o.span.end]
        return touching[-1] if touching else None

    def norm_at(self, offset: int) -> ast.Norm | None:
        """The norm around an offset."""
        around = (n for n in self.file.norms if n.span.start <= offset <= n.span.end)
        return next(around, None)

    def used(self) -> Iterator[tuple[ast.Use, str]]:
        """Each `use` with the source that it names, if that exists."""
        for use in self.file.uses:
            source = resolve_use(use.path, self.name, self.sources)
            if source is not None:
                yield use, source

    def depends_on(self, name: str) -> bool:
        """Whether a change of the text `name` may change the meaning of this one."""
        if name in self.sources:
            return True
        used = (use.path for s in self.sources.values() for use in parsed_source(s)[0].file.uses)
        return posixpath.basename(name) in map(posixpath.basename, used)

    def source_of_norm(self, norm: str) -> str | None:
        """The source of the norm that a call of this name means."""
        names = [self.name, *(source for _, source in self.used())]
        for name in names:
            norms = parsed_source(self.sources[name])[0].file.norms if name in self.sources else ()
            if norm in (n.name.name for n in norms):
                return name
        return None


class Project:
    """The specs of one editor. Views are cached until a text that they depend on changes."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.folders: list[str] = []
        self._views: dict[str, View] = {}

    def set_document(self, name: str, text: str) -> None:
        """Open or change a document, whose text replaces the file from now on."""
        if self.texts.get(name) != text:
            self.texts[name] = text
            self._invalidate(name)

    def close_document(self, name: str) -> None:
        """Close a document: the file on disk counts again."""
        self.texts.pop(name, None)
        self._invalidate(name)

    def _invalidate(self, name: str) -> None:
        views = list(self._views.items())
        self._views = {n: v for n, v in views if n != name and not v.depends_on(name)}

    def clear_views(self) -> None:
        """Drop all views, since files have changed on disk."""
        self._views.clear()

    def view(self, name: str) -> View:
        """The view of a spec, read and checked if it is not cached."""
        view = self._views.get(name)  # a local: another thread may clear the cache
        if view is None:
            texts = dict(self.texts)
            if name.startswith(LIBRARY):
                path = resource("specs") / name.removeprefix(LIBRARY)
                texts[name] = path.read_text(encoding="utf-8")
            view = View(name, findings(load([name], texts=texts)))
            self._views[name] = view
        return view

    def users(self, name: str) -> list[str]:
        """Open documents that read this one, directly or not, without itself."""
        others = [self.view(other) for other in self.texts if other != name]
        return [view.name for view in others if name in view.sources]

    def names(self) -> list[str]:
        """The open documents and the specs in the folders of the editor."""
        names = dict.fromkeys(self.texts)
        for folder in self.folders:
            for path in _specs_in(folder):
                names[path] = None
                if len(names) >= MAX_FILES:
                    return list(names)
        return list(names)

    def symbol(self, view: View, occurrence: Occurrence) -> tuple[str, Symbol] | None:
        """The symbol and the source that introduces it; `None` for a word of the language."""
        symbol = occurrence.symbol
        if symbol.role is Role.NORM:
            home = view.name if occurrence.introduces else view.source_of_norm(symbol.name)
            return None if home is None else (home, symbol)
        if not symbol.norm:
            return None
        if symbol.norm.partition(".")[0] == occurrence.norm:  # an entry is of its norm
            return view.name, symbol
        home = view.source_of_norm(symbol.norm)  # a name of a norm that is called
        if home is None:
            return None
        home_occurrences = self.view(home).occurrences if home != view.name else view.occurrences
        symbols = {
            (o.symbol.norm, o.symbol.name): o.symbol for o in home_occurrences if o.introduces
        }
        return home, introduced(occurrence, symbols)

    def occurrences(self, home: str, symbol: Symbol) -> dict[str, list[Occurrence]]:
        """The occurrences of a symbol by source, including sources that call its norm."""
        name = (symbol.norm, symbol.name)
        occurrences_by_source: dict[str, list[Occurrence]] = {}
        for source in (home, *self.callers(home, symbol.norm or symbol.name)):
            view = self.view(source)
            alike = (o for o in view.occurrences if (o.symbol.norm, o.symbol.name) == name)
            same_symbol = [o for o in alike if self.symbol(view, o) == (home, symbol)]
            if same_symbol:
                occurrences_by_source[source] = same_symbol
        return occurrences_by_source

    def callers(self, home: str, norm: str) -> list[str]:
        """Other sources that may call a norm of this source; none for a source of the library."""
        if home.startswith(LIBRARY):
            return []
        return [name for name in self.names() if name != home and self._mentions(name, norm)]

    def _mentions(self, name: str, norm: str) -> bool:
        """Whether a text may use a name of another one: a cheap test before it is parsed."""
        text = self.texts.get(name)
        if text is None:
            try:
                text = Path(name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                return False
        return "use" in text and norm in text


def _specs_in(folder: str) -> Iterable[str]:
    """The specs below a folder, except in hidden folders and `node_modules`."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "node_modules")
        yield from (
            Path(parent, file).as_posix() for file in sorted(files) if file.endswith(".norm")
        )
