"""What lies in a generated package already: modules, what they export, and what has no spec."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from metanorm.module_names import module_name
from metanorm.targets.header import HEADER, digest
from metanorm.targets.package import VENDORED

EXPORT = re.compile(r"^from \.(\w+) import (?:\(([^)]*)\)|([^\n(]*))$", re.MULTILINE)
GENERATED = ("*.py", "*.c")
RUNTIME = (".py", ".c", ".h")  # what a runtime inside the package consists of
USE = f"from . import {VENDORED} as runtime\n"


@dataclass(frozen=True)
class Leftover:
    """A generated file that nothing generates any more."""

    path: Path
    module: str
    origin: str  # the name of its spec
    is_edited: bool  # somebody has put work into it

    def remedy(self) -> str:
        """What to do about it."""
        if self.is_edited:
            return "its module was edited by hand: move it out of the package, or remove it"
        return "`metanorm compile --prune` removes it"


def existing_exports(folder: Path) -> dict[str, tuple[str, ...]]:
    """The modules of a generated package that are still there, with the names they export."""
    text = _text(folder / "__init__.py")
    if not HEADER.match(text):
        return {}
    found = {}
    for module, long, short in EXPORT.findall(text):
        names = tuple(n.strip() for n in (long or short).split(",") if n.strip())
        if (folder / f"{module}.py").is_file():
            found[module] = names
    return found


def files_without_spec(folder: Path, modules: Collection[str]) -> list[Leftover]:
    """Generated files of other modules than these, which are all that have a spec.

    Where one file of a module was edited, its kernels are kept with it.
    """
    gone = [left for left in _generated_files(folder) if left.module not in modules]
    edited = {left.module for left in gone if left.is_edited}
    return [replace(left, is_edited=left.module in edited) for left in gone]


def obsolete_files(
    folder: Path, modules: Collection[str], files: Collection[str]
) -> list[Leftover]:
    """Generated files of these modules that are no longer made, such as kernels.

    `files` are the names of all that is made now.
    """
    every = _generated_files(folder)
    return [left for left in every if left.module in modules and left.path.name not in files]


def unused_runtime_files(folder: Path, files: Collection[str]) -> list[Leftover]:
    """Files of a runtime inside the package that are no longer made, and that no module uses.

    `files` are the names of all that is made now; other modules may use what was made before.
    """
    others = (path for path in folder.glob("*.py") if path.name not in files)
    if f"{VENDORED}/__init__.py" not in files and any(USE in _text(path) for path in others):
        return []
    paths = sorted(path for path in (folder / VENDORED).rglob("*") if path.suffix in RUNTIME)
    found = (_leftover(p) for p in paths if p.relative_to(folder).as_posix() not in files)
    return [left for left in found if left is not None]


def _generated_files(folder: Path) -> Iterator[Leftover]:
    for path in sorted(path for pattern in GENERATED for path in folder.glob(pattern)):
        left = _leftover(path) if path.name != "__init__.py" else None
        if left is not None:
            yield left


def _leftover(path: Path) -> Leftover | None:
    """A generated file as one that is left over; `None` where it was not generated."""
    text = _text(path)
    header = HEADER.match(text)
    if header is None:
        return None
    is_edited = digest(text[header.end() :]) != header["body"]
    return Leftover(path, module_name(header["origin"]), header["origin"], is_edited)


def _text(path: Path) -> str:
    """The text of a file; of one that cannot be read, none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
