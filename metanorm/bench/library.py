"""Compiles norms of the library for benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from torch import nn

from metanorm import frontend
from metanorm.driver import compile_specs
from metanorm.frontend import Checked
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.targets.live import module_from_files
from metanorm.workspace import load_library


@dataclass(frozen=True)
class CompiledSpecs:
    """Compiled specs: their checked norms, and the text of each generated file."""

    checked: Checked
    files: Mapping[str, str]
    roots: Sequence[str]


def library_specs_of(norms: Collection[str], options: Options) -> CompiledSpecs:
    """The specs of the library that contain one of these norms, compiled."""
    library = load_library()
    checked = frontend.check(library.sources, library.roots)
    roots = [r for r in library.roots if any(n.program.name in norms for n in checked.norms[r])]
    return CompiledSpecs(checked, compile_specs(library.sources, roots, options).files, roots)


@dataclass(frozen=True)
class LibraryNorm:
    """A norm of the library: its program, its module, and its class."""

    optimised: Program
    module: ModuleType
    layer: Callable[..., nn.Module]


def library_norms(norms: Collection[str], options: Options) -> dict[str, LibraryNorm]:
    """These norms by name."""
    specs = library_specs_of(norms, options)
    norms_by_name: dict[str, LibraryNorm] = {}
    for root in specs.roots:
        module = module_from_files(specs.files, module_name(root))
        for norm in specs.checked.norms[root]:
            name = norm.program.name
            if name in norms:
                norms_by_name[name] = LibraryNorm(
                    optimize(norm.program), module, getattr(module, name)
                )
    return norms_by_name
