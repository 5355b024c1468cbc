"""The folders of files that ship with metanorm: the grammar and the spec library.

A wheel has them inside the package, a checkout beside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def resource(folder: str) -> Path:
    """The folder `grammar` or `specs` of this installation."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
