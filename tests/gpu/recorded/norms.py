"""Norms with their launches as a GPU would have them: everything compiles, and all arguments fit.

Every norm of the library is called with a few elements, and some with the usual sizes, whose tiles
are large and take minutes to compile. `METANORM_PTX=all` asks for those of all norms, and for sm_80
beside sm_90: an hour or two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from recorder import Launched, Recorder, compiled, recording

from metanorm import frontend
from metanorm.bench.workload import workloads
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.runtime import ShapeError, use
from metanorm.runtime.triton.kernels import has_kernel_file
from metanorm.verify.cases import Example, Setting, make_example, settings
from metanorm.verify.compare import call_module, make_module
from metanorm.workspace import load_library

ALL = os.environ.get("METANORM_PTX") == "all"
REPORT = os.environ.get("METANORM_PTX_REPORT")  # a file for registers and stacks of all kernels
SOME = """
    AdaLayerNorm BatchNorm FiLM GraphNorm GroupNorm InstanceNorm LayerNorm
    LlamaRMSNorm MaskedBatchNorm MetaNorm QKRMSNorm RMSNorm SwitchNorm WeightStandardization
""".split()
# `launching.py` has more.
QUICK = "BatchNorm GraphNorm GroupNorm LlamaRMSNorm MaskedBatchNorm".split()
SMALL = ("eval, float32", "bfloat16", "channels last")
USUAL = ("32x512x14x14", "32x64x56x56 channels last", "8192x768 bfloat16", "7972x128 in 256")
UNSERVED = ("cannot run on Triton kernels: the call has", "cannot be had")

LIBRARY = load_library()
NORMS = {
    norm.program.name: (root, norm.program)
    for root, norms in frontend.check(LIBRARY.sources, LIBRARY.roots).norms.items()
    for norm in norms
}


def few_elements(program: Program) -> Iterator[tuple[Setting, Example]]:
    """Small calls, in several ways."""
    for setting in settings(program):
        if setting.name in SMALL:
            yield setting, make_example(program, setting)


def usual_sizes(program: Program) -> Iterator[tuple[Setting, Example]]:
    """The calls that are measured."""
    for workload, built in workloads(program):
        if workload.name in USUAL:
            yield Setting(workload.name, dtype=workload.dtype), built


Calls = Callable[[Program], Iterator[tuple[Setting, Example]]]

# Each row: a norm, its calls, an architecture, and whether every commit waits for it.
ROWS: list[tuple[str, Calls, int, bool]] = [
    *((name, few_elements, 90, name in QUICK) for name in NORMS),
    *((name, usual_sizes, 90, False) for name in (NORMS if ALL else SOME)),
    *((name, calls, 80, False) for name in NORMS if ALL for calls in (few_elements, usual_sizes)),
]


@pytest.mark.parametrize(
    ("name", "calls", "architecture"),
    [pytest.param(*row, marks=() if quick else (pytest.mark.extended,)) for *row, quick in ROWS],
)
def test_launches_of_a_norm(name: str, calls: Calls, architecture: int) -> None:
    root, program = NORMS[name]
    module = compiled(module_name(root))
    if not has_kernel_file(module.__file__ or ""):  # calls may take all memory
        pytest.skip("plain torch alone: `metanorm explain` says why")
    served = 0
    with recording(architecture) as recorder, use("triton"):
        for setting, built in calls(program):
            served += launches(program, module, setting, built, recorder)
    assert served or name not in SOME or calls is usual_sizes
    if not served:
        pytest.skip("no call of this norm has kernels: `metanorm explain` says why")
    if REPORT:
        with Path(REPORT).open("a") as file:
            file.writelines(f"{line}\n" for line in resource_lines(name, recorder.launches))


def launches(
    program: Program, module: ModuleType, setting: Setting, built: Example, recorder: Recorder
) -> bool:
    """Call a norm in both directions; whether kernels serve the call."""
    before = len(recorder.launches)
    norm = make_module(program, module, built, setting)
    inputs = {
        n: x.requires_grad_() if x is not None and x.is_floating_point() else x
        for n, x in built.inputs.items()
    }
    try:
        outputs = call_module(program, norm, inputs, built)
    except ShapeError:
        return False
    except RuntimeError as error:
        assert UNSERVED[0] in str(error) and UNSERVED[1] not in str(error), setting.name
        return False
    forward = len(recorder.launches)
    if forward == before:
        return False  # plain torch, or nothing to compute
    total = [y for y in outputs.values() if y.requires_grad]
    torch.autograd.backward(total, [torch.ones_like(y) for y in total])
    assert len(recorder.launches) > forward or not total, setting.name
    return True


def resource_lines(name: str, launches: list[Launched]) -> Iterator[str]:
    """Registers and stack of each kernel that was compiled for a norm."""
    rows = {(f.kernel, f.architecture, f.warps, f.registers, f.stack) for f in launches}
    return (" ".join(map(str, (name, *row))) for row in sorted(rows))
