"""The compiler from Python: specs to live modules, for notebooks and scripts."""

from __future__ import annotations

from os import PathLike, fspath
from types import ModuleType

from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.live import module_from_files
from metanorm.workspace import STDIN, Workspace
from metanorm.workspace import load as load_specs


class SpecError(ValueError):
    """A spec has errors; the message is the report that `metanorm check` prints."""


def load(path: str | PathLike[str]) -> ModuleType:
    """Compile a spec file and import what comes out: `load("group_norm.norm").GroupNorm(2, 8)`.

    Nothing is written. Raises `SpecError` where the spec has errors or cannot be read.
    """
    return _live(load_specs([fspath(path)]))


def loads(text: str) -> ModuleType:
    """Compile the text of a spec and import what comes out, as `load` does."""
    return _live(load_specs([STDIN], stdin=text.encode(errors="surrogatepass")))


def _live(specs: Workspace) -> ModuleType:
    problems = specs.diagnostics
    if len(specs.roots) > 1:
        raise SpecError(f"one spec at a time, not {', '.join(specs.roots)}")
    if not problems:
        result = compile_specs(specs.sources, specs.roots, Options())
        if result.ok:
            module = module_name(specs.roots[0])
            return module_from_files(result.files, module)
        problems = tuple(d for d in result.diagnostics if d.severity is Severity.ERROR)
    raise SpecError("\n" + render_text(problems, specs.sources))
