"""Modules that Python compiled for itself, as files in the folder of caches.

`metanorm.load` returns `metanorm.loaded.layer_norm_3f2a0c9d51e7b846`, say: the end is a digest of
all that the module depends on. It is an ordinary module, so that tracebacks, `inspect` and
debuggers see its text, and another process can import it to unpickle what it receives.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from metanorm import user_cache

SOURCE = ".py"
DIGITS = 16  # of the digest


def cache_folder() -> Path | None:
    """Where the files are; `None` where none can be kept."""
    found = user_cache.folder(user_cache.MODULES)
    __path__[:] = [str(found)] if found else []
    return found


def write_module(module: str, key: str, files: Mapping[str, str], here: Path) -> Path:
    """Write the files of a module, which `compile` calls `module.py` and `module.c`, say, under a
    name that has the key in it. Returns the Python file. Raises `OSError`.

    Files that are there already stay as they are. The Python file comes last, so that whoever
    finds it finds its kernels.
    """
    stem = f"{module}_{key[:DIGITS]}"
    for name in sorted(files, key=lambda name: name == f"{module}{SOURCE}"):
        path, data = here / name.replace(module, stem, 1), files[name].encode()
        if user_cache.content(path) != data and not user_cache.keep(path, data):
            raise OSError(f"cannot write `{path}`")
    return here / f"{stem}{SOURCE}"


def import_module_file(path: Path) -> ModuleType:
    """Import the module of a file that lies in the folder, or take it where it is imported."""
    importlib.invalidate_caches()  # the file may be newer than what Python remembers of the folder
    return importlib.import_module(f"{__name__}.{path.stem}")


def private_folder() -> Path:
    """A folder for this process, where there is no folder of caches. Raises `OSError`."""
    import atexit
    import shutil

    made = tempfile.mkdtemp(prefix="metanorm-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


class _MissingModuleFinder:
    """The last to be asked for a module: says why it is not there, and what to do."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise `ModuleNotFoundError` for modules of this package."""
        if not name.startswith(f"{__name__}."):
            return None
        stem = name.rpartition(".")[2]
        spec = stem.rpartition("_")[0]
        where = os.fspath(user_cache.root() or "a folder of caches, which there is not")
        raise ModuleNotFoundError(
            f"`{stem}` is what `metanorm.load` made of the spec `{spec}.norm`, and it is not in "
            f"{where}: load the same spec first, with the same version of metanorm",
            name=name,
        )


cache_folder()
if not any(finder is _MissingModuleFinder for finder in sys.meta_path):
    sys.meta_path.append(_MissingModuleFinder)
