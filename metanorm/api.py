"""The compiler from Python: `load` and `loads` turn a spec into an imported module."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike, fspath
from types import ModuleType

from metanorm import loaded
from metanorm.compile_cache import compile_changed, entry_name
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.text import render_text
from metanorm.display import with_display
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.live import module_from_files
from metanorm.torch_extra import import_failure
from metanorm.workspace import STDIN, Workspace
from metanorm.workspace import load as load_specs


class SpecError(ValueError):
    """A spec has errors; the message is the report that `metanorm check` prints."""

    def _render_traceback_(self) -> list[str]:
        """The report alone, for notebooks: a traceback would not help."""
        return str(self).strip("\n").split("\n")


def load(path: str | PathLike[str]) -> ModuleType:
    """Compile a spec file and import the module: `load("group_norm.norm").GroupNorm(2, 8)`.

    The module is a file in the cache folder, so that another process of this user can unpickle its
    classes. Without a cache folder it exists in this process alone. A notebook displays it as
    equations, pools, cost and source. Raises `SpecError` if the spec has errors or cannot be read.
    """
    return _load_module(load_specs([fspath(path)]))


def loads(text: str) -> ModuleType:
    """Compile the text of a spec and import the module, as `load` does."""
    return _load_module(load_specs([STDIN], stdin=text.encode(errors="surrogatepass")))


def module_files(specs: Workspace) -> tuple[str, dict[str, str]]:
    """Compile the only spec of a workspace: the name of its module, and the text of each file.

    Raises `SpecError`.
    """
    problems = specs.diagnostics
    if len(specs.roots) > 1:
        raise SpecError(f"one spec at a time, not {', '.join(specs.roots)}")
    if not problems:
        result = compile_changed(specs.sources, specs.roots, Options())
        if result.ok:
            files = {name: text for name, text in result.files.items() if name != "__init__.py"}
            return module_name(specs.roots[0]), files
        problems = tuple(d for d in result.diagnostics if d.severity is Severity.ERROR)
    raise SpecError("\n" + render_text(problems, specs.sources))


def _load_module(specs: Workspace) -> ModuleType:
    name, files = module_files(specs)
    try:
        return _import_files(name, files, specs)
    except ImportError as error:
        raise ImportError(
            f"this runs a module: {import_failure(error)}", name=error.name
        ) from error


def _import_files(name: str, files: dict[str, str], specs: Workspace) -> ModuleType:
    folder = loaded.cache_folder()
    if folder is not None:
        digest = entry_name(specs.sources, specs.roots[0], Options())
        with suppress(OSError):  # the disk may be full
            return with_display(
                loaded.import_module_file(loaded.write_module(name, digest, files, folder)), specs
            )
    return with_display(module_from_files(files, name), specs)
