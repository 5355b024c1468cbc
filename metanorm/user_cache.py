"""The folder of caches: where it is, and what in it is safe to use.

The compiler and the runtime share it. All of it may be removed at any time.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

NATIVE, COMPILED, MODULES = CACHES = ("native", "compiled", "modules")


def root() -> Path | None:
    """The folder that holds every cache; `None` for a user without a home. It need not exist."""
    given = os.environ.get("METANORM_CACHE")
    try:
        path = Path(given).absolute() if given else _default_folder() / "metanorm"
    except OSError:  # the current folder is gone
        return None
    return path if path.is_absolute() else None


def folder(name: str) -> Path | None:
    """One of the caches, made where it is missing; `None` where it cannot be used, or not safely.

    What lies in it is run, so that nobody else may be able to write it.
    """
    above = root()
    if above is None:
        return None
    try:
        path = above / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if is_only_ours(path.lstat(), stat.S_IFDIR) else None
    except OSError:
        return None


def content(path: Path) -> bytes:
    """The bytes of a file that nobody else could write; none where there is no such file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            safe = is_only_ours(os.fstat(file.fileno()), stat.S_IFREG)
            return file.read() if safe else b""
    except OSError:
        return b""


def keep(path: Path, data: bytes) -> bool:
    """Put a file into a cache in one step; whether that worked."""
    handle, temporary = -1, ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
        return True
    except OSError:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        return False


def is_only_ours(is_now: os.stat_result, kind: int) -> bool:
    """Whether it is of this kind, this user's, and writable by no other."""
    if stat.S_IFMT(is_now.st_mode) != kind:
        return False
    if not hasattr(os, "geteuid"):  # Windows keeps the folders of a user to the user
        return True
    return is_now.st_uid == os.geteuid() and not is_now.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _default_folder() -> Path:
    """Where the system wants caches of this user; relative for a user without a home."""
    variable, below = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~")  # "~" where unknown
    return Path(home) / below
