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
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metanorm import user_cache

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
    return user_cache.folder(user_cache.NATIVE)


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
        if entry == _entry(name, user_cache.content(cache / entry)):
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
                ours = user_cache.is_only_ours(is_now, stat.S_IFDIR)
                if ours and is_now.st_mtime < time.time() - ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)


def _entry(name: str, content: bytes) -> str:
    """The file name of an entry."""
    return f"{name}-{hashlib.sha256(content).hexdigest()}.so"
