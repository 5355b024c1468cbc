"""The names of modules and norms, and the problems of specs that become one package."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from metanorm.diagnostics.targets import BadModuleName
from metanorm.python_words import KEYWORDS
from metanorm.resources import LIBRARY
from metanorm.source import Source, Span

# Names that no file can have on Windows, whatever its extension.
PORTS = (f"{port}{number}" for port in ("com", "lpt") for number in range(10))
DEVICES = frozenset(("con", "prn", "aux", "nul", "conin", "conout", *PORTS))


def module_name(source: str) -> str:
    """The module of a spec file; that of `<stdin>` is `stdin`."""
    stem = posixpath.basename(source).removeprefix(LIBRARY).removesuffix(".norm")
    return stem.strip("<>").replace("-", "_")


def module_name_problem(module: str, taken: Iterable[str] = ()) -> str:
    """Why no module can have this name beside those that are taken; empty if one can."""
    for other in taken:
        if other == module:
            return "would write the same module as another file"
        if other.lower() == module.lower():  # one file, on the disks of macOS and Windows
            return f"would write the module `{other}` where case does not count"
    if module.lower() in DEVICES:
        return "is what Windows calls a device, and no file there"
    if not module.isascii():
        return "has letters beyond ASCII, which systems spell differently in names of modules"
    if not module.isidentifier() or module in KEYWORDS:
        return "cannot be the name of a Python module"
    return "would be hidden in Python" if module.startswith("__") else ""


def naming_problems(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    names: Mapping[str, Sequence[tuple[str, Span]]],
    others: Collection[str] = (),
    taken: Collection[str] = (),
) -> Iterator[BadModuleName]:
    """The problems with names of modules and norms, if these specs become one package.

    `names` has the norms of each spec with the spans of their names. `others` are modules that the
    package already has, and `taken` those of which no spec is the origin.
    """
    modules: list[str] = []
    norm_spans: dict[str, Span] = {}  # of norms
    for root in roots:
        module = module_name(root)
        rest = (other for other in others if other != module)
        reason = module_name_problem(module, (*taken, *modules, *rest))
        if reason:
            yield _file_problem(sources[root], reason)
            continue
        modules.append(module)
        for name, span in names.get(root, ()):
            if name in norm_spans:
                yield BadModuleName(span, name, "is the name of two norms", norm_spans[name])
            norm_spans[name] = span
    for root in roots:
        module = module_name(root)
        if module in norm_spans and module not in (name for name, _ in names.get(root, ())):
            reason = "is the name of a norm in another file, which it would hide"
            yield _file_problem(sources[root], reason)


def naming_problems_of_each(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    names: Mapping[str, Sequence[tuple[str, Span]]],
) -> Iterator[BadModuleName]:
    """The same problems, if each spec becomes a module by itself, for as long as a command runs."""
    for root in roots:
        yield from naming_problems(sources, [root], names)


def naming_problems_by_folder(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    names: Mapping[str, Sequence[tuple[str, Span]]],
) -> Iterator[BadModuleName]:
    """The same problems, if the specs of each folder become a package of their own."""
    roots_by_folder: dict[str, list[str]] = {}
    for root in roots:
        roots_by_folder.setdefault(posixpath.dirname(root), []).append(root)
    for roots_of_folder in roots_by_folder.values():
        yield from naming_problems(sources, roots_of_folder, names)


def _file_problem(source: Source, reason: str) -> BadModuleName:
    return BadModuleName(source.span(0, 0), posixpath.basename(source.name), reason)
