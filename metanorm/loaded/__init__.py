"""The package of modules that `metanorm.load` compiles, as files in the cache folder.

`metanorm.load` returns `metanorm.loaded.layer_norm_3f2a0c9d51e7b846`, say. The suffix is a digest
of all inputs of the compilation. It is an ordinary module: tracebacks, `inspect` and debuggers show
its text, and another process can import it to unpickle its classes.
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
    """The folder of the modules; `None` if there is no safe one. Updates `__path__`."""
    folder = user_cache.folder(user_cache.MODULES)
    __path__[:] = [str(folder)] if folder else []
    return folder


def write_module(module: str, key: str, files: Mapping[str, str], folder: Path) -> Path:
    """Write the files of a module, such as `module.py` and `module.c`, under names that contain the
    key. Returns the path of the Python file. Raises `OSError`.

    Files with the right content stay. The Python file is written last, so that a process that
    finds it finds its kernels.
    """
    stem = f"{module}_{key[:DIGITS]}"
    for name in sorted(files, key=lambda name: name == f"{module}{SOURCE}"):
        path, data = folder / name.replace(module, stem, 1), files[name].encode()
        if user_cache.content(path) != data and not user_cache.keep(path, data):
            raise OSError(f"cannot write `{path}`")
    return folder / f"{stem}{SOURCE}"


def import_module_file(path: Path) -> ModuleType:
    """Import the module of a file in the folder."""
    importlib.invalidate_caches()  # the file may be newer than what Python remembers of the folder
    return importlib.import_module(f"{__name__}.{path.stem}")


def private_folder() -> Path:
    """A folder for this process alone, if there is no cache folder. Raises `OSError`."""
    import atexit
    import shutil

    folder = tempfile.mkdtemp(prefix="metanorm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class _MissingModuleFinder:
    """The last finder on `sys.meta_path`: says why a module is missing, and what to do."""

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
