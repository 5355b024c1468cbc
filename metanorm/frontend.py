"""Sources to programs: everything of the compiler that does not depend on a target.

Pure: it reads and writes no files, prints nothing, and imports neither torch nor a target.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.functions import UnknownFunction
from metanorm.diagnostics.internal import guarded
from metanorm.diagnostics.model import INTERNAL, Diagnostic, Severity
from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.targets import BadModuleName, BadUse, NoNorm, UnreadableFile
from metanorm.ir.program import Program
from metanorm.resources import LIBRARY
from metanorm.semantics.allowances import without_allowed
from metanorm.semantics.entries import entries_of, norm_of_entry
from metanorm.semantics.equations_from_clauses import equations_from_clauses
from metanorm.semantics.examples import Example, examples_of
from metanorm.semantics.ir_from_ast import NamedValue, ir_from_ast
from metanorm.semantics.limits import Sizes, too_large, too_many
from metanorm.semantics.lowering import CallableNorm
from metanorm.source import Source, Span
from metanorm.syntax import ast
from metanorm.syntax.parse import Parsed, parse
from metanorm.syntax.text_from_ast import text_from_ast

MAX_PATH_LENGTH = 255  # characters of the path behind `use`


@dataclass(frozen=True)
class CheckedNorm:
    """A norm without errors, before the optimiser."""

    norm: ast.Norm
    equations: ast.Norm
    program: Program
    examples: tuple[Example, ...] = ()

    @property
    def entries(self) -> list[tuple[ast.Norm, Program]]:
        """The entries as norms of their own, with their programs."""
        norms = [norm_of_entry(self.equations, e) for e in entries_of(self.equations)]
        return list(zip(norms, self.program.entries))

    @property
    def programs(self) -> tuple[Program, ...]:
        """The program of the norm, and those of its entries."""
        return (self.program, *self.program.entries)


@dataclass
class Checked:
    """The output of the front end: the checked norms of each root, and all diagnostics."""

    norms: dict[str, list[CheckedNorm]] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()
    reads: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # each root with the sources that it uses
    # The values of each norm by name, keyed by source and norm; incomplete for a norm with errors.
    values: dict[tuple[str, str], Mapping[str, NamedValue]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(d.severity is Severity.ERROR for d in self.diagnostics)

    @property
    def names(self) -> dict[str, list[tuple[str, Span]]]:
        """The norms of each root, with the spans of their names."""
        return {
            source: [(norm.program.name, norm.equations.name.span) for norm in norms]
            for source, norms in self.norms.items()
        }


def check(sources: Mapping[str, Source], roots: Sequence[str]) -> Checked:
    """Parse and check the sources named in `roots`; `sources` also holds what they use."""
    return _Check(sources).run(roots)


def format_spec(source: Source) -> tuple[str, tuple[Diagnostic, ...]]:
    """The formatted text, or the text unchanged and its syntax errors."""
    parsed, problems = parsed_source(source)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return source.text, problems
    failed = Collector()
    with guarded(failed, source.whole().before()):
        return text_from_ast(parsed.file), ()
    return source.text, failed.sorted()


def used_paths(source: Source) -> tuple[str, ...]:
    """The paths behind `use` in a source."""
    if "use" not in source.text:  # most sources, which need not be parsed for this
        return ()
    return tuple(use.path for use in parsed_source(source)[0].file.uses if _is_path(use.path))


def sources_read(root: str, sources: Mapping[str, Source]) -> tuple[str, ...]:
    """The names of a source and of all sources that it uses, directly or not, each once."""
    names: list[str] = []
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.append(name)
        used_names = (resolve_use(path, name, sources) for path in used_paths(sources[name]))
        waiting += reversed([used for used in used_names if used is not None])
    return tuple(names)


def resolve_use(path: str, user: str, sources: Mapping[str, object]) -> str | None:
    """The source that `use "path"` in `user` means: a file beside it, else one of the library."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(user), path))
    choices = (LIBRARY + path,) if user.startswith(LIBRARY) else (beside, LIBRARY + path)
    return next((name for name in choices if name in sources), None)


@lru_cache(maxsize=256)
def parsed_source(source: Source) -> tuple[Parsed, tuple[Diagnostic, ...]]:
    """The syntax of a source and its syntax errors, cached: several functions need it."""
    problems = Collector()
    parsed = Parsed(ast.File(span=source.whole()), frozenset())
    with guarded(problems, source.whole().before()):
        parsed = parse(source, problems)
    return parsed, problems.sorted()


def _is_path(path: str) -> bool:
    return (
        path.endswith(".norm")
        and not path.startswith("/")
        and path.isprintable()
        and len(path) <= MAX_PATH_LENGTH
        and "\\" not in path
    )


class _Check:
    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources
        self.problems = Collector()
        self.parsed: dict[str, Parsed] = {}
        self.equations: dict[str, dict[str, ast.Norm | None]] = {}
        self.tables: dict[str, dict[str, CallableNorm]] = {}
        self.values: dict[tuple[str, str], Mapping[str, NamedValue]] = {}
        self.sizes = Sizes()
        self.failed_uses: set[str] = set()  # sources with a `use` that failed

    def run(self, roots: Sequence[str]) -> Checked:
        norms = {root: self._check_file(root) for root in roots}
        diagnostics = self._without_consequences(self.problems.sorted())
        for name in self.parsed:
            diagnostics = without_allowed(diagnostics, self.sources[name], name in roots)
        reads = {root: sources_read(root, self.sources) for root in roots}
        return Checked(norms, diagnostics, reads, self.values)

    def _without_consequences(self, diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
        """The diagnostics without those that another diagnostic causes.

        That drops warnings about a norm with errors, and unknown norms where a `use` failed.
        """
        starts = {
            name: [norm.span.start for norm in parsed.file.norms]
            for name, parsed in self.parsed.items()
        }

        def norm_of(d: Diagnostic) -> tuple[str, int]:
            span = d.primary.span
            return span.source, bisect_right(starts.get(span.source, []), span.start)

        def is_unknown_norm(d: Diagnostic) -> bool:
            span = d.primary.span
            return (
                d.code == UnknownFunction.code
                and self.sources[span.source].text[span.start].isupper()
            )

        flawed = {norm_of(d) for d in diagnostics if d.severity is Severity.ERROR}
        return tuple(
            d
            for d in diagnostics
            if not (d.severity is Severity.WARNING and norm_of(d) in flawed)
            and not (d.primary.span.source in self.failed_uses and is_unknown_norm(d))
        )

    def _check_file(self, name: str) -> list[CheckedNorm]:
        table = self._table(name)
        parsed, syntax_diagnostics = parsed_source(self.sources[name])
        if not (
            parsed.file.norms or parsed.broken or syntax_diagnostics or name in self.failed_uses
        ):
            self.problems.add(NoNorm(self.sources[name].whole().before()))
        checked = []
        seen: dict[str, Span] = {}
        for norm in parsed.file.norms:
            if norm.name.name in seen:
                first = seen[norm.name.name]
                reason = "is the name of two norms"
                self.problems.add(BadModuleName(norm.name.span, norm.name.name, reason, first))
                continue
            seen[norm.name.name] = norm.name.span
            equations = self.equations[name].get(norm.name.name)
            if equations is None:
                continue
            with guarded(self.problems, norm.name.span):
                size_problem = self.sizes.too_large(equations, table)
                if size_problem is not None:
                    self.problems.add(size_problem)
                    continue
                lowered = ir_from_ast(equations, table, self.problems)
                self.values[name, norm.name.name] = lowered.values
                if lowered.program is not None:
                    examples = examples_of(norm, lowered.program, self.problems)
                    checked.append(CheckedNorm(norm, equations, lowered.program, examples))
        return checked

    def _table(self, name: str) -> dict[str, CallableNorm]:
        """The norms that a file can call, by name: its own, and those of the files it uses."""
        if name in self.tables:
            return self.tables[name]
        table: dict[str, CallableNorm] = {}
        self.tables[name] = table
        problems = Collector()
        parsed, syntax_diagnostics = parsed_source(self.sources[name])
        problems.extend(syntax_diagnostics)
        self.parsed[name] = parsed
        equations_by_name = self.equations.setdefault(name, {})
        surplus = too_many(parsed.file.norms)
        if surplus is not None:
            problems.add(surplus)
        for norm in parsed.file.norms if surplus is None else ():
            equations = None
            with guarded(problems, norm.name.span):
                size_problem = too_large(norm)
                if size_problem is not None:
                    problems.add(size_problem)
                elif norm.name.name not in parsed.broken:
                    equations = equations_from_clauses(norm.without_examples, problems)
            equations_by_name.setdefault(norm.name.name, equations)
        for broken_name in parsed.broken:
            equations_by_name.setdefault(broken_name, None)
        self.problems.extend(problems.sorted())
        for norm_name, norm_equations in equations_by_name.items():
            table[norm_name] = CallableNorm(norm_equations, table)
        for use in parsed.file.uses:
            self._add_used_norms(use, name, table)
        return table

    def _add_used_norms(self, use: ast.Use, user: str, table: dict[str, CallableNorm]) -> None:
        if not _is_path(use.path):
            self.failed_uses.add(user)
            self.problems.add(BadUse(use.span, use.path))
            return
        used_name = resolve_use(use.path, user, self.sources)
        if used_name is None:
            self.failed_uses.add(user)
            library_names = tuple(
                n.removeprefix(LIBRARY) for n in self.sources if n.startswith(LIBRARY)
            )
            hint = "files are looked for beside this one, then in the library"
            reason = "there is no such file"
            self.problems.add(UnreadableFile(use.span, use.path, reason, library_names, hint))
            return
        table_of_used = self._table(used_name)
        reason = self.sources[used_name].problem
        used = self.parsed[used_name]
        if not (
            reason or used.file.norms or used.broken or parsed_source(self.sources[used_name])[1]
        ):
            reason = "there is no norm in it"
        if reason:
            self.failed_uses.add(user)
            self.problems.add(UnreadableFile(use.span, use.path, reason))
        if any(d.code == INTERNAL for d in parsed_source(self.sources[used_name])[1]):
            self.failed_uses.add(user)
        for name, norm in table_of_used.items():
            used_equations = self.equations[used_name]
            if name not in used_equations or name in self.equations[user]:
                continue  # of a file that the used file uses; or the user defines the name itself
            existing = table.get(name)
            if existing is not None and existing.equations is not norm.equations:
                self.problems.add(DuplicateName(use.span, name))
            table[name] = norm
