"""The folder of built libraries.

An entry is one file, `KEY-DIGEST.so`: the key says what it was built from, the digest what its
bytes must be. So a file is whole or known to be broken, and processes that build the same entry
at once cannot spoil it for each other, without any lock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FORMAT = 2  # raised when what an entry is changes
BUILDING = "metanorm-building-"
ABANDONED = 24 * 60 * 60  # seconds after which nobody builds in a folder any more
ROOM = 1024 * 1024  # bytes; more than the compiler writes for one kernel, assembly and all


def key(parts: Iterable[str]) -> str:
    """The name of what is built from these parts."""
    digest = hashlib.sha256(f"metanorm native {FORMAT}".encode())
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:40]


def folder() -> Path | None:
    """The cache, made where it is missing; `None` where it cannot be used, or not safely."""
    try:
        given = os.environ.get("METANORM_CACHE")
        path = (Path(given).absolute() if given else _usual() / "metanorm") / "native"
        if not path.is_absolute():
            return None
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _only_ours(path.lstat(), stat.S_IFDIR) else None
    except OSError:
        return None


def _usual() -> Path:
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


def find(cache: Path, name: str) -> Path | None:
    """The entry of a key, if it is there, whole, and safe to load.

    A broken one is left for `keep` to replace: removing it could hit what another process just
    put in its place.
    """
    try:
        entries = [entry for entry in os.listdir(cache) if entry.startswith(f"{name}-")]
    except OSError:
        return None
    for entry in entries:
        if entry == _entry(name, _content(cache / entry)):
            return cache / entry
    return None


def keep(cache: Path, name: str, library: Path, instead_of: Path | None = None) -> Path | None:
    """Make a library, built in the cache, the entry of a key, maybe instead of one that does not
    serve; `None` where that fails."""
    try:
        if instead_of is not None:
            instead_of.unlink(missing_ok=True)
        path = cache / _entry(name, library.read_bytes())
        library.chmod(0o700)
        library.replace(path)
        return path
    except OSError:
        return None


@contextmanager
def workplace(parent: Path | None) -> Iterator[Path]:
    """A new folder to build in, in the cache or where the system has such; removed at the end.

    Raises `OSError` where it cannot be written, or has too little room.
    """
    above = Path(tempfile.gettempdir()) if parent is None else parent
    _sweep(above)
    place = Path(tempfile.mkdtemp(prefix=BUILDING, dir=above))
    try:
        _demand_room(place)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _demand_room(place: Path) -> None:
    """Raise `OSError` where the disk, or the quota, is full, before a compiler fails for it."""
    room = place / "room"
    room.write_bytes(os.urandom(ROOM))  # zeros take no room where the disk compresses
    room.unlink()


def _sweep(above: Path) -> None:
    """Remove the folders of builds that were killed."""
    with suppress(OSError):
        for path in above.glob(f"{BUILDING}*"):
            with suppress(OSError):
                is_now = path.lstat()
                if _only_ours(is_now, stat.S_IFDIR) and is_now.st_mtime < time.time() - ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)


def _entry(name: str, content: bytes) -> str:
    """The file name of an entry."""
    return f"{name}-{hashlib.sha256(content).hexdigest()}.so"


def _content(path: Path) -> bytes:
    """The bytes of a file that nobody else could write; none where there is no such file."""
    try:
        file = os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
        with open(file, "rb") as opened:
            safe = _only_ours(os.fstat(file), stat.S_IFREG)
            return opened.read() if safe else b""
    except OSError:
        return b""


def _only_ours(is_now: os.stat_result, kind: int) -> bool:
    """Whether it is of this kind, this user's, and writable by no other."""
    if stat.S_IFMT(is_now.st_mode) != kind:
        return False
    if not hasattr(os, "geteuid"):  # Windows keeps the folders of a user to the user
        return True
    return is_now.st_uid == os.geteuid() and not is_now.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
