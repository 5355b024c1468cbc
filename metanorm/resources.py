"""Where the files that ship with metanorm are: the grammar and the spec library.

In a wheel they lie inside the package, in a checkout beside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def resource(folder: str) -> Path:
    """The folder `grammar` or `specs` of this installation."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
