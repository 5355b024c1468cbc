"""What a call launches: looks at the data, and at most one kernel between two of them."""

from __future__ import annotations

import pytest

from metanorm import frontend
from metanorm.nest.eligibility import NoKernels
from metanorm.passes.pipeline import optimize
from metanorm.targets.python.pyir import Function, Parameter
from metanorm.targets.registry import target_for_device
from metanorm.targets.triton.phase_kernels import in_one_program
from metanorm.targets.triton.source import kernel_name, kernel_source
from metanorm.targets.triton.steps import PhaseStep, Step, TileStep
from metanorm.workspace import load_library

LIBRARY = load_library()
NORMS = {
    norm.program.name: norm.program
    for norms in frontend.check(LIBRARY.sources, LIBRARY.roots).norms.values()
    for norm in norms
}
# Looks at the data (x), and kernels of what is narrow (n), forward and backward: in training, for
# data where the last axis of the spec is the one along which memory runs.
KNOWN = {
    "BatchNorm": ("xnx", "xnx"),
    "LayerNorm": ("xnx", "xnx"),
    "GroupNorm": ("xnx", "xnx"),
    "InstanceNorm": ("xnx", "xnx"),
    "GraphNorm": ("xnx", "xnx"),
    "SwitchNorm": ("xnx", "nxnx"),
}


def _letters(steps: tuple[Step, ...]) -> str:
    return "".join("x" if isinstance(step, TileStep) else "n" for step in steps)


@pytest.mark.parametrize("name", NORMS)
def test_one_launch_between_two_looks(name: str) -> None:
    try:
        kernels = target_for_device("cuda").kernels(optimize(NORMS[name]))
    except NoKernels as reason:
        pytest.skip(f"plain torch alone: {reason}")
    schedules_of_norm = kernel_source(kernels, name.lower()).schedules.values()
    assert schedules_of_norm
    for schedules in schedules_of_norm:
        for steps in (schedules.sweeps, schedules.islands):
            assert "nn" not in _letters(steps)


@pytest.mark.parametrize("name", KNOWN)
def test_launches_of_a_known_norm(name: str) -> None:
    kernels = target_for_device("cuda").kernels(optimize(NORMS[name]))
    schedules = kernel_source(kernels, "norm").schedules
    variant, last = kernels.variants[0], NORMS[name].inputs[0].dims[-1]
    both = [kernel_name("norm", d[last]) for d in (variant.forward, variant.backward)]
    assert tuple(_letters(schedules[kernel].sweeps) for kernel in both) == KNOWN[name]


def _phase(name: str, reads: str = "", stores: str = "", changes: str = "") -> PhaseStep:
    """One that reads a tensor, stores an array, or changes a buffer."""
    keys = tuple(key for key in (reads, stores, changes) if key)
    kernel = Function(name, tuple(Parameter(key.split(" ")[1]) for key in keys), "None", ())
    arrays = ((stores, ()),) if stores else ()
    return PhaseStep(kernel, keys, (), (), arrays, (changes,) if changes else ())


@pytest.mark.parametrize(
    ("second", "waits"),
    [
        (_phase("second", reads="tensor a", stores="value u"), False),
        (_phase("second", reads="value t", stores="value u"), True),
        (_phase("second", changes="tensor a"), True),
        (_phase("second", changes="tensor b"), False),
    ],
    ids=["reads the same", "reads what was stored", "changes what was read", "has to do with none"],
)
def test_phases_of_a_program_wait_for_each_other(second: PhaseStep, waits: bool) -> None:
    first = _phase("first", reads="tensor a", stores="value t")
    kernel = in_one_program("both", "", [first, second]).kernel
    assert kernel is not None
    assert ("tl.debug_barrier" in str(kernel.body)) == waits
