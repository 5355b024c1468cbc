"""The kernels of a norm among processes: those of its sweeps, between which it sends messages."""

from __future__ import annotations

from metanorm.nest.eligibility import NoKernels
from metanorm.options import Target
from metanorm.passes.divided import DividedVariant
from metanorm.passes.local_sweeps import LocalSweeps, NotInSweeps, local_sweeps
from metanorm.targets.registry import KERNEL_TARGETS, KernelTarget, targets_written_for

# The target that has kernels for sweeps. Those in Triton add up in the precision of the data.
SWEEP_TARGET = KERNEL_TARGETS["native"]


def sweep_target(target: Target) -> KernelTarget | None:
    """The target whose file has the kernels of sweeps when compiling for `target`."""
    return SWEEP_TARGET if SWEEP_TARGET in targets_written_for(target) else None


def sweeps_with_kernels(variant: DividedVariant) -> LocalSweeps:
    """The sweeps of a norm among processes, all of which have kernels. Raises `NoKernels`."""
    try:
        sweeps = local_sweeps(variant.program)
    except NotInSweeps as reason:
        raise NoKernels(str(reason)) from reason
    for sweep in sweeps.sweeps:
        SWEEP_TARGET.kernels(sweep.program)
    return sweeps
