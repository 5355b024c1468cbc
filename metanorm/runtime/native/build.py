"""C sources as loaded libraries: out of the cache, or built and put there."""

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

# By this a library says what it was built from, so that one that a compiler has made of something
# else, or of nothing, is not called.
STAMP = '\n__attribute__((visibility("default"))) const char metanorm_built_from[] = "%s";\n'

_loaded: dict[str, ctypes.CDLL] = {}


def load(source: str, defines: Mapping[str, str] = {}) -> ctypes.CDLL:
    """The library of a source, with macros defined. Raises `CannotBuild`."""
    how = recipe(source, defines)
    name = cache.key(how.parts())
    # Kept, for without a usable cache every load would compile.
    if name not in _loaded:
        _loaded[name] = _first(how, name, lambda path, _: ctypes.CDLL(str(path)))
    return _loaded[name]


def build(source: str, defines: Mapping[str, str] = {}) -> Path:
    """The file of that library; outside the cache, where that is unusable, it lasts as long as
    this process. Raises `CannotBuild`."""
    how = recipe(source, defines)

    def lasting(path: Path, private: ExitStack) -> Path:
        atexit.register(private.pop_all().close)
        return path

    return _first(how, cache.key(how.parts()), lasting)


def _first(how: Recipe, name: str, use: Callable[[Path, ExitStack], T]) -> T:
    """What `use` makes of the library, from the cache if it can be had there, else from a private
    folder: the cache may be full, read-only, or on a disk from which nothing may be executed."""
    here = cache.folder()
    problem: OSError | None = None
    for place in (None,) if here is None else (here, None):
        with ExitStack() as private:
            try:
                return use(_library(how, name, place, private), private)
            except OSError as error:
                problem = error
    raise CannotBuild(
        f"the library cannot be built or loaded: {problem}",
        "set METANORM_CACHE to a folder that can be written and executed from, "
        "or METANORM_CC to a compiler for this machine",
    )


def _library(how: Recipe, name: str, here: Path | None, private: ExitStack) -> Path:
    """The library in the cache, or one that lasts as long as `private`."""
    found = None if here is None else cache.find(here, name)
    if found is not None:
        with suppress(OSError):  # built for another system
            if _stamped(found, name):
                return found
    with ExitStack() as building:
        library = how.make(building.enter_context(cache.workplace(here)), STAMP % name)
        if not _stamped(library, name):
            raise CannotBuild(f"{how.name} made a library that lacks the kernels", how.remedy)
        kept = None if here is None else cache.keep(here, name, library, instead_of=found)
        if kept is None:
            private.push(building.pop_all())
        return kept or library


def _stamped(library: Path, name: str) -> bool:
    """Whether a library was built from what this key stands for. Raises `OSError` where it cannot
    be loaded."""
    try:
        stamp = (ctypes.c_char * len(name)).in_dll(ctypes.CDLL(str(library)), "metanorm_built_from")
    except ValueError:
        return False
    return stamp.raw == name.encode()
