"""The folders of files that ship with metanorm: the grammar and the spec library.

A wheel has them inside the package, a checkout beside it.
"""

from __future__ import annotations

from pathlib import Path

LIBRARY = "metanorm:"  # begins the names of sources that ship with metanorm
PACKAGE = Path(__file__).resolve().parent


def resource(folder: str) -> Path:
    """The folder `grammar` or `specs` of this installation."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def library_specs() -> list[str]:
    """The file names of the specs that ship with metanorm."""
    return sorted(path.name for path in resource("specs").glob("*.norm"))


def library_texts() -> dict[str, str]:
    """The text of each spec that ships with metanorm, by its file name."""
    folder = resource("specs")
    return {name: (folder / name).read_text(encoding="utf-8") for name in library_specs()}
