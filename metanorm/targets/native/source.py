"""The kernels of a norm in C: sections of one text, of which a build defines one, so that what is
not used is never compiled."""

from __future__ import annotations

from metanorm.nest.kernels import Kernel, NormKernels
from metanorm.targets.native.cir import Section
from metanorm.targets.native.kernel import KernelPrinter


def sections(kernels: NormKernels, function: str) -> tuple[Section, ...]:
    """The kernels of the norm whose function has this name."""
    return tuple(
        Section(section_name(function, kernel), tuple(KernelPrinter(kernel).definitions()))
        for kernel in kernels
    )


def section_name(function: str, kernel: Kernel) -> str:
    """What a build defines to get one kernel."""
    name = f"{function}_{kernel.variant}_{kernel.direction}_along_".upper()
    return name + kernel.layout.vector.replace(".", "_")
