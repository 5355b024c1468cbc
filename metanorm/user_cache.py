"""The cache folder of a user: its path, and safe reading and writing of its files.

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
    """The folder of all caches, which may not exist yet; `None` for a user without a home."""
    configured = os.environ.get("METANORM_CACHE")
    try:
        path = Path(configured).absolute() if configured else _default_folder() / "metanorm"
    except OSError:  # the current folder is gone
        return None
    return path if path.is_absolute() else None


def folder(name: str) -> Path | None:
    """The folder of one cache, created if it is missing; `None` if it cannot be used safely.

    Its files are executed, so nobody but this user may be able to write to it.
    """
    parent = root()
    if parent is None:
        return None
    try:
        path = parent / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if is_only_ours(path.lstat(), stat.S_IFDIR) else None
    except OSError:
        return None


def content(path: Path) -> bytes:
    """The bytes of a file that only this user can write; empty if there is no such file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            is_safe = is_only_ours(os.fstat(file.fileno()), stat.S_IFREG)
            return file.read() if is_safe else b""
    except OSError:
        return b""


def keep(path: Path, data: bytes) -> bool:
    """Write a file of a cache atomically. Returns whether that worked."""
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


def is_only_ours(status: os.stat_result, kind: int) -> bool:
    """Whether a file is of a kind such as `stat.S_IFDIR`, and only this user owns and writes it."""
    if stat.S_IFMT(status.st_mode) != kind:
        return False
    if not hasattr(os, "geteuid"):  # Windows keeps the folders of a user to the user
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _default_folder() -> Path:
    """The folder for caches by the rules of the system; relative for a user without a home."""
    variable, below_home = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    configured = Path(os.environ.get(variable, ""))
    if configured.is_absolute():
        return configured
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~")  # "~" where unknown
    return Path(home) / below_home
