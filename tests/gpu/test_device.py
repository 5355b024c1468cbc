"""What runs on a GPU alone, in small sizes: kernels against the oracle, and the benchmark.

`metanorm verify --device cuda` and `metanorm bench --device cuda` are the same at full length.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from commands import in_a_child as run
from conftest import LIBRARY, PROGRAMS, ROOT
from test_bench import case

from metanorm.bench.candidates import Candidate, candidates
from metanorm.bench.clock import CudaClock
from metanorm.bench.device import cuda_device
from metanorm.bench.memory import peak_bytes_on_gpu
from metanorm.bench.report import Report
from metanorm.driver import compile_specs
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import settings
from metanorm.verify.compare import compare

if not torch.cuda.is_available():
    pytest.skip("needs a GPU that torch can use", allow_module_level=True)
pytest.importorskip("triton")

SETTINGS = ("train", "eval", "float32", "bfloat16", "channels last", "strided", "one NaN")
SPECS = {name: file for file, name in (
    *(("batch_norm", "BatchNorm"), ("instance_norm", "InstanceNorm"), ("rms_norm", "RMSNorm")),
    *(("group_norm", "GroupNorm"), ("layer_norm", "LayerNorm"), ("graph_norm", "GraphNorm")),
    ("dynamic_tanh", "DynamicTanh"),
)}  # fmt: skip


@functools.lru_cache(maxsize=1)
def modules() -> dict[str, ModuleType]:
    """The module that has a norm of the library, by the name of the norm."""
    files = compile_specs(LIBRARY.sources, LIBRARY.roots, Options(target="triton")).files
    loaded = [module_from_files(files, module_name(root)) for root in LIBRARY.roots]
    return {name: module for module in loaded for name in PROGRAMS if hasattr(module, name)}


def test_a_norm_on_the_device(program: Program) -> None:
    module = modules()[program.name]
    for setting in settings(program):
        if setting.name in SETTINGS:
            comparison = compare(program, module, setting, device="cuda")
            assert not comparison.bad, (setting.name, comparison)


def installed_candidates(name: str) -> Iterator[Candidate]:
    """Every candidate of a norm that is installed."""
    for _, make in candidates(case(SPECS[name], name, "triton", cuda_device()), traced=False):
        try:
            yield make()
        except Exception as error:
            assert "not installed" in str(error)


@pytest.mark.filterwarnings("ignore")  # of layers that others have written
@pytest.mark.parametrize("name", SPECS)
def test_every_candidate_computes_the_same(name: str) -> None:
    """Values and gradients: what others' layers are made with is what the norm means."""
    norm_candidates = list(installed_candidates(name))
    assert norm_candidates[0].name == "metanorm" and len(norm_candidates) >= 3
    results = []
    for candidate in norm_candidates:
        y = candidate.forward()
        leaves = (*candidate.rotation.turns[0].leaves, *candidate.parameters)
        slope = torch.ones_like(y).cumsum(-1) / y.shape[-1]  # which a layer may write to
        results.append((y.detach(), *torch.autograd.grad(y, leaves, slope, allow_unused=True)))
    for candidate, result in zip(norm_candidates, results):
        for value, expected in zip(result[:2], results[0][:2]):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4, msg=candidate.name)


def test_the_clock_waits_for_the_gpu() -> None:
    """What the host only launches has not been done when it goes on."""
    clock = CudaClock(2**20)
    x = torch.randn(2048, 2048, device="cuda")
    prepared: list[int] = []

    def prepare() -> functools.partial[torch.Tensor]:
        prepared.append(1)
        return functools.partial(torch.mm, x, x)

    lap = clock.lap(prepare, 20)
    assert len(prepared) == 20 and lap.host is not None and lap.seconds > 0 and lap.host > 0
    assert clock.calls(lap.seconds) >= 1


def test_memory_is_that_of_the_allocator() -> None:
    x = torch.randn(2**20, device="cuda")
    assert peak_bytes_on_gpu(lambda: x * 2) == 2**22
    assert peak_bytes_on_gpu(lambda: (x * 2) + 1) == 2**23


def test_the_command_runs_on_the_device(tmp_path: Path) -> None:
    data = tmp_path / "b.json"
    specs = [str(ROOT / "specs" / f"{name}.norm") for name in ("layer_norm", "batch_norm")]
    quick = ("--rounds", "1", "--only", "16x64", "--device", "cuda")
    done = run("bench", *specs, *quick, "--json", str(data))
    assert done.returncode == 0, done.stderr
    report = Report.model_validate_json(data.read_text())
    assert report.machine.gpu == torch.cuda.get_device_name() and report.machine.gpu in done.stdout
    for entry in report.entries:
        names = {m.candidate for m in entry.measurements}
        assert {"metanorm", "plain torch", "torch.nn", "equations"} <= names, entry.left_out
        assert all(m.host is not None for m in entry.measurements)
        assert all(footprint.peak >= entry.nbytes for footprint in entry.footprints)
    verified = run("verify", specs[0], "--device", "cuda")
    assert verified.returncode == 0, verified.stdout + verified.stderr
