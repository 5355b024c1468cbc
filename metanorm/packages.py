"""The files of a generated package on disk: exports of its modules, and files left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from metanorm.module_names import module_name
from metanorm.targets.header import HEADER, digest
from metanorm.targets.package import ALL_SPECS, VENDORED

EXPORT = re.compile(r"^from \.(\w+) import (?:\(([^)]*)\)|([^\n(]*))$", re.MULTILINE)
GENERATED = ("*.py", "*.c")
RUNTIME = (".py", ".c", ".h")  # extensions of the files of a runtime inside the package
USE = f"from . import {VENDORED} as runtime\n"


@dataclass(frozen=True)
class Leftover:
    """A generated file that the current specs and options do not generate."""

    path: Path
    module: str
    origin: str  # the name of its spec
    is_edited: bool  # its text differs from the digest in its header

    def remedy(self) -> str:
        """What to do about it."""
        if self.is_edited:
            return "its module was edited by hand: move it out of the package, or remove it"
        return "`metanorm compile --prune` removes it"


def existing_exports(folder: Path) -> dict[str, tuple[str, ...]]:
    """The modules of a generated package that still exist, with the names they export."""
    text = _text(folder / "__init__.py")
    if not HEADER.match(text):
        return {}
    exports = {}
    for module, long, short in EXPORT.findall(text):
        names = tuple(n.strip() for n in (long or short).split(",") if n.strip())
        if (folder / f"{module}.py").is_file():
            exports[module] = names
    return exports


def files_without_spec(folder: Path, modules: Collection[str]) -> list[Leftover]:
    """Generated files that belong to no module of `modules`, which are all that have a spec.

    If one file of a module was edited, all its files count as edited.
    """
    leftovers = [
        leftover for leftover in _generated_files(folder) if leftover.module not in modules
    ]
    edited_modules = {leftover.module for leftover in leftovers if leftover.is_edited}
    return [
        replace(leftover, is_edited=leftover.module in edited_modules) for leftover in leftovers
    ]


def obsolete_files(
    folder: Path, modules: Collection[str], files: Collection[str]
) -> list[Leftover]:
    """Generated files of these modules that are no longer generated, such as kernels.

    `files` are the names of all files that are generated now.
    """
    leftovers = _generated_files(folder)
    return [
        leftover
        for leftover in leftovers
        if leftover.module in modules and leftover.path.name not in files
    ]


def unused_runtime_files(folder: Path, files: Collection[str]) -> list[Leftover]:
    """Files of a runtime inside the package that are no longer generated and that no module uses.

    `files` are the names of all files that are generated now. Other modules may use older files.
    """
    others = (path for path in folder.glob("*.py") if path.name not in files)
    if f"{VENDORED}/__init__.py" not in files and any(USE in _text(path) for path in others):
        return []
    paths = sorted(path for path in (folder / VENDORED).rglob("*") if path.suffix in RUNTIME)
    leftovers = (_leftover(p) for p in paths if p.relative_to(folder).as_posix() not in files)
    return [leftover for leftover in leftovers if leftover is not None]


def _generated_files(folder: Path) -> Iterator[Leftover]:
    for path in sorted(path for pattern in GENERATED for path in folder.glob(pattern)):
        leftover = _leftover(path)
        if leftover is not None and leftover.origin != ALL_SPECS:
            yield leftover


def _leftover(path: Path) -> Leftover | None:
    """The file as a leftover; `None` if it was not generated."""
    text = _text(path)
    header = HEADER.match(text)
    if header is None:
        return None
    is_edited = digest(text[header.end() :]) != header["body"]
    return Leftover(path, module_name(header["origin"]), header["origin"], is_edited)


def _text(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
