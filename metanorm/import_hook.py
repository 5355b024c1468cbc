"""`import group_norm`, where there is a `group_norm.norm` and no `group_norm.py`.

Nothing is hooked before `install()` is called. For packages, `metanorm compile` is better: type
checkers do not see modules that are made while Python runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from metanorm import loaded


class SpecImportError(ImportError):
    """A spec that is imported has errors: `path` is its file, and the message is the report."""


def install() -> None:
    """Let `import` find specs on `sys.path` and in packages, after all other finders.

    What is imported lies in the folder of caches as files. Importing a spec with errors raises
    `SpecImportError`. To unpickle its classes, another process has to call `install()` first.
    """
    if _SpecFinder not in sys.meta_path:
        sys.meta_path.append(_SpecFinder)


def uninstall() -> None:
    """Find no more specs. What was imported stays."""
    if _SpecFinder in sys.meta_path:
        sys.meta_path.remove(_SpecFinder)


class _SpecFinder:
    """A meta path finder for specs, in the folders in which Python looks for modules."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of `name.norm` in one of the folders, compiled; `None` without one."""
        if name.startswith("metanorm."):
            return None
        stem = name.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            file = Path(folder or ".") / f"{stem}.norm"
            try:
                exists = file.is_file()
            except (OSError, ValueError):
                continue
            if exists:
                return spec_from_file_location(name, _compile_file(file, name))
        return None


def _compile_file(file: Path, name: str) -> Path:
    """Compile a spec file, unless that is cached; the path of its module."""
    from metanorm.api import SpecError, module_files
    from metanorm.compile_cache import entry_name
    from metanorm.options import Options
    from metanorm.workspace import load

    specs = load([str(file)])
    try:
        module, files = module_files(specs)
    except SpecError as error:
        raise SpecImportError(str(error), name=name, path=str(file)) from None
    digest = entry_name(specs.sources, specs.roots[0], Options())
    for folder in (loaded.cache_folder, loaded.private_folder):
        try:
            cache_path = folder()
            if cache_path is not None:
                return loaded.write_module(module, digest, files, cache_path)
        except OSError as error:
            reason = error
    raise SpecImportError(
        f"cannot write what {file} compiles to: {reason}", name=name, path=str(file)
    )
