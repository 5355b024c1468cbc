"""The kernels of a norm in C, as sections of one text. A build defines the macro of one section, so
that unused kernels are never compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metanorm.nest.kernels import NormKernels
from metanorm.nest.nest import Nest
from metanorm.targets.native.alternatives import with_alternatives
from metanorm.targets.native.cir import Guarded
from metanorm.targets.native.context import axis_constants
from metanorm.targets.native.kernel import KernelPrinter


def sections(kernels: NormKernels, function: str) -> Iterator[Guarded]:
    """The kernels of the norm with this function: a section per variant and direction, which has
    all layouts of the data."""
    for variant in kernels.variants:
        for nests in (variant.forward, variant.backward):
            yield _section(function, nests)


def _section(function: str, nests: Mapping[str, Nest]) -> Guarded:
    layouts = {
        _layout_name(nest): tuple(KernelPrinter(nest, tuple(nests.values())).definitions())
        for nest in nests.values()
    }
    name = _section_name(function, next(iter(nests.values())))
    return Guarded(name, tuple(with_alternatives(layouts)))


def build_macros(function: str, nest: Nest) -> str:
    """The macros that a build defines to compile one kernel for one layout."""
    return f"{_section_name(function, nest)} {_layout_name(nest)}"


def _section_name(function: str, nest: Nest) -> str:
    return f"{function}_{nest.variant}_{nest.direction}".upper()


def _layout_name(nest: Nest) -> str:
    return f"ALONG_{axis_constants(nest.program)[nest.layout.vector_axis]}"
