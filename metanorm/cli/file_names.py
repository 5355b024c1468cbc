"""The names of files that commands write: an ending keeps them from writing over a spec."""

from __future__ import annotations

import os
from pathlib import Path

from metanorm.diagnostics.suggest import prose
from metanorm.workspace import WorkspaceError


def demand_ending(path: Path, what: str, *endings: str) -> str:
    """The ending of a file for `what`, in lower case. Raises `WorkspaceError` for any other."""
    ending = path.suffix.lower()
    if ending not in endings:
        raise WorkspaceError(
            f"`{path}` is no name of {what}: it must end in {prose(endings, 'or')}"
        )
    return ending


def demand_writable(path: Path) -> None:
    """Make the folder of a file that is written after long work.

    Raises `WorkspaceError` if the file could not be written then.
    """
    if path.is_dir():
        raise WorkspaceError(f"cannot write `{path}`: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"cannot write `{path}`: {error.strerror or error}") from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise WorkspaceError(f"cannot write `{path}`: it is read-only")
