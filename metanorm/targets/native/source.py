"""The kernels of a norm in C: sections of one text, of which a build defines one, so that what is
not used is never compiled."""

from __future__ import annotations

from metanorm.nest.kernels import NormKernels
from metanorm.nest.nest import Nest
from metanorm.targets.native.cir import Guarded
from metanorm.targets.native.kernel import KernelPrinter


def sections(kernels: NormKernels, function: str) -> tuple[Guarded, ...]:
    """The kernels of the norm whose function has this name."""
    return tuple(
        Guarded(section_name(function, nest), tuple(KernelPrinter(nest).definitions()))
        for nest in kernels
    )


def section_name(function: str, nest: Nest) -> str:
    """What a build defines to get one kernel."""
    name = f"{function}_{nest.variant}_{nest.direction}_along_".upper()
    return name + nest.layout.vector.replace(".", "_")
