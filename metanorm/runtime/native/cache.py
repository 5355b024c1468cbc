"""The folder of built libraries.

An entry is one file, `KEY-DIGEST.so`: the key is that of what it was built from, the digest that of
its bytes. So a broken file is recognized, and processes that build the same entry at once need no
lock.
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

FORMAT = 2  # raised when the content of entries changes
BUILD_PREFIX = "metanorm-building-"
STALE_SECONDS = 24 * 60 * 60  # after which a build folder is taken to be abandoned
MIN_FREE_BYTES = 1024 * 1024  # more than a compiler writes for one kernel, with its assembly


def key(parts: Iterable[str]) -> str:
    """The key of a library that is built from these parts."""
    digest = hashlib.sha256(f"metanorm native {FORMAT}".encode())
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:40]


def folder() -> Path | None:
    """The cache folder, created if it is missing; `None` if it cannot be used safely."""
    return user_cache.folder(user_cache.NATIVE)


def find(cache: Path, name: str) -> Path | None:
    """The entry of a key, if it exists, is whole, and safe to load.

    A broken one is left for `keep` to replace: another process may just have replaced it.
    """
    try:
        entries = [entry for entry in os.listdir(cache) if entry.startswith(f"{name}-")]
    except OSError:
        return None
    for entry in entries:
        if entry == _entry_name(name, user_cache.content(cache / entry)):
            return cache / entry
    return None


def keep(cache: Path, name: str, library: Path, replacing: Path | None = None) -> Path | None:
    """Move a library to the entry of a key; `None` on failure.

    The broken entry that it is `replacing` is removed.
    """
    try:
        if replacing is not None:
            replacing.unlink(missing_ok=True)
        path = cache / _entry_name(name, library.read_bytes())
        library.chmod(0o700)
        library.replace(path)
        return path
    except OSError:
        return None


@contextmanager
def build_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder to build in, in `parent` or among temporary files; it is removed at the end.

    Raises `OSError` if it cannot be written to, or the disk is full.
    """
    parent_folder = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_stale_folders(parent_folder)
    path = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=parent_folder))
    try:
        _demand_free_space(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _demand_free_space(path: Path) -> None:
    """Raise `OSError` if the disk, or the quota, is full, before a compiler fails by it."""
    probe = path / "room"
    probe.write_bytes(os.urandom(MIN_FREE_BYTES))  # zeros could be compressed
    probe.unlink()


def _remove_stale_folders(parent: Path) -> None:
    """Remove the folders of builds that were killed."""
    with suppress(OSError):
        for path in parent.glob(f"{BUILD_PREFIX}*"):
            with suppress(OSError):
                status = path.lstat()
                is_ours = user_cache.is_only_ours(status, stat.S_IFDIR)
                if is_ours and status.st_mtime < time.time() - STALE_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)


def _entry_name(name: str, content: bytes) -> str:
    """The file name of an entry."""
    return f"{name}-{hashlib.sha256(content).hexdigest()}.so"
