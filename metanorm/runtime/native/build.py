"""Builds C sources to libraries, or takes them from the cache, and loads them."""

from __future__ import annotations

import atexit
import ctypes
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.native import cache
from metanorm.runtime.native.compiler import Recipe, recipe

__all__ = ["CannotBuild", "build", "load"]

T = TypeVar("T")

# The key of its source in a library. A library without it, which a broken compiler or cache may
# give, is not called.
STAMP = '\n__attribute__((visibility("default"))) const char metanorm_built_from[] = "%s";\n'

_loaded: dict[str, ctypes.CDLL] = {}


def load(source: str, defines: Mapping[str, str] = {}) -> ctypes.CDLL:
    """The library of a source, with macros defined. Raises `CannotBuild`."""
    recipe_ = recipe(source, defines)
    name = cache.key(recipe_.parts())
    # Without a usable cache, every load would compile.
    if name not in _loaded:
        _loaded[name] = _open(recipe_, name, lambda path, _: ctypes.CDLL(str(path)))
    return _loaded[name]


def build(source: str, defines: Mapping[str, str] = {}) -> Path:
    """The file of that library. Raises `CannotBuild`.

    If the cache is unusable, it is in a folder that is removed when this process ends.
    """
    recipe_ = recipe(source, defines)

    def lasting(path: Path, private: ExitStack) -> Path:
        atexit.register(private.pop_all().close)
        return path

    return _open(recipe_, cache.key(recipe_.parts()), lasting)


def _open(recipe_: Recipe, name: str, open_library: Callable[[Path, ExitStack], T]) -> T:
    """The result of `open_library` for the library in the cache, else for one in a private folder.

    The cache may be full, read-only, or on a disk from which nothing may be executed.
    """
    cache_folder = cache.folder()
    problem: OSError | None = None
    for folder in (None,) if cache_folder is None else (cache_folder, None):
        with ExitStack() as private:
            try:
                return open_library(_library(recipe_, name, folder, private), private)
            except OSError as error:
                problem = error
    raise CannotBuild(
        f"the library cannot be built or loaded: {problem}",
        "set METANORM_CACHE to a folder that can be written and executed from, "
        "or METANORM_CC to a compiler for this machine",
    )


def _library(recipe_: Recipe, name: str, folder: Path | None, private_folders: ExitStack) -> Path:
    """The library in a cache folder, or one that lasts as long as `private_folders`."""
    cached = None if folder is None else cache.find(folder, name)
    if cached is not None:
        with suppress(OSError):  # it was built for another system
            if _stamped(cached, name):
                return cached
    with ExitStack() as building:
        library = recipe_.make(building.enter_context(cache.build_folder(folder)), STAMP % name)
        if not _stamped(library, name):
            raise CannotBuild(
                f"{recipe_.name} made a library that lacks the kernels", recipe_.remedy
            )
        entry = None if folder is None else cache.keep(folder, name, library, replacing=cached)
        if entry is None:
            private_folders.push(building.pop_all())
        return entry or library


def _stamped(library: Path, name: str) -> bool:
    """Whether a library was built for this key. Raises `OSError` if it cannot be loaded."""
    try:
        stamp = (ctypes.c_char * len(name)).in_dll(ctypes.CDLL(str(library)), "metanorm_built_from")
    except ValueError:
        return False
    return stamp.raw == name.encode()
