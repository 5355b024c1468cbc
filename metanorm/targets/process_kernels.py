"""The kernels of a norm among processes: those of its sweeps, between which it sends messages."""

from __future__ import annotations

from metanorm.nest.eligibility import NoKernels
from metanorm.passes.divided import DividedVariant
from metanorm.passes.local_sweeps import LocalSweeps, local_sweeps
from metanorm.passes.sweep_programs import NotInSweeps
from metanorm.targets.registry import KERNEL_TARGETS, KernelTarget

# The target that decides whether a norm is printed in sweeps: what any other one has kernels for,
# this one has, too.
SWEEP_TARGET = next(iter(KERNEL_TARGETS.values()))


def sweeps_with_kernels(
    variant: DividedVariant, target: KernelTarget = SWEEP_TARGET
) -> LocalSweeps:
    """The sweeps of a norm among processes, all of which have kernels. Raises `NoKernels`."""
    try:
        sweeps = local_sweeps(variant.program)
    except NotInSweeps as reason:
        raise NoKernels(str(reason)) from reason
    for sweep in sweeps.sweeps:
        target.kernels(sweep.program)
    return sweeps
