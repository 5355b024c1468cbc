"""What a benchmark and a verification on a GPU need, tried without one. For what runs on a GPU
alone see `tests/gpu/test_device.py`."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import pytest
import torch
from commands import in_a_child as run
from conftest import ROOT
from rich.console import Console
from test_bench import SPECS, case, one

from metanorm.bench.candidates import candidates
from metanorm.bench.clock import MAX_CALLS, CpuClock, Lap, PrepareCall
from metanorm.bench.device import DEVICES, Device
from metanorm.bench.fallback import RanOnTorch, demand_kernels
from metanorm.bench.machine import driver
from metanorm.bench.measure import Plan, measure_case
from metanorm.bench.memory import peak_bytes
from metanorm.bench.peers.layers import LAYERS
from metanorm.bench.peers.peer import NotInstalled, Package, Peer
from metanorm.bench.peers.table import package_peers, peers
from metanorm.bench.report import Entry, Machine, Measurement, Report, machine_text
from metanorm.bench.rotation import Rotation, copy_count
from metanorm.bench.summary import summary
from metanorm.bench.table import table_of
from metanorm.bench.turns import time_in_turns
from metanorm.bench.workload import GPU_WORKLOADS, WORKLOADS, fitted_lengths, workloads
from metanorm.cli.devices import why_no_gpu
from metanorm.runtime.kernels import errors
from metanorm.verify.layouts import to_device, with_layout

MB = 10**6
HERE = Machine(processor="p", threads=2, torch="t", metanorm="m")
GPU = HERE.model_copy(update={"gpu": "Some GPU", "driver": "550.1", "cuda": "12.4"})


# ---- inputs that take turns


@pytest.mark.parametrize("nbytes", [1, 4096, 3 * MB, 30 * MB, 400 * MB])
@pytest.mark.parametrize("cache", [4 * MB, 50 * MB, 126 * MB])
def test_no_input_is_in_the_cache_when_its_turn_comes(nbytes: int, cache: int) -> None:
    """What the others have is more than the cache holds, or a lap is over before it comes again."""
    count = copy_count(nbytes, cache)
    assert count >= 2
    assert (count - 1) * nbytes >= cache or count == MAX_CALLS
    assert copy_count(nbytes, 0) == 1


def test_numbers_are_copied_and_indices_are_not() -> None:
    program = one("graph_norm").program
    workload, built = min(workloads(program), key=lambda pair: pair[0].nbytes)
    rotation = Rotation(built, "cpu", 3)
    first, *others = rotation.turns
    for other in others:
        x, index, groups = other.inputs
        assert x.data_ptr() != first.inputs[0].data_ptr() and x.requires_grad
        assert x.stride() == first.inputs[0].stride() and torch.equal(x, first.inputs[0])
        assert index is first.inputs[1] and groups == workload.groups
        assert len(other.leaves) == 1 and other.leaves[0] is x
    y = torch.empty(4, 5).t()
    grad_outputs = rotation.grad_outputs(y)
    assert len({s.data_ptr() for s in grad_outputs}) == 3 and grad_outputs[0].stride() == y.stride()
    assert rotation.grad_outputs(y) is grad_outputs


def test_calls_go_through_the_turns() -> None:
    """With a cache to outgrow, also on the CPU, everything is measured as without."""
    device = Device("cpu", "native", CpuClock(shortest=0), 4096, peak_bytes, WORKLOADS)
    batch_case = case("batch_norm", "BatchNorm")
    program, workload = batch_case.norm.program, batch_case.workload
    built = next(b for w, b in workloads(program) if w == workload)
    rotation = Rotation(built, "cpu", copy_count(workload.nbytes, device.cache))
    batch_case = type(batch_case)(**{**vars(batch_case), "rotation": rotation, "device": device})
    seen: list[int] = []
    candidate = next(
        c for name, c in candidates(batch_case, traced=False) if name == "plain torch"
    )()
    layer = candidate.layer
    candidate.layer = lambda x: (seen.append(x.data_ptr()), layer(x))[1]
    prepare = candidate.prepare("forward")
    seen.clear()
    for _ in range(2 * len(rotation.turns)):
        prepare()()
    order = [turn.inputs[0].data_ptr() for turn in rotation.turns]
    assert len(set(order)) == len(order) >= 2 and seen == order + order
    entry = measure_case(batch_case, Plan(rounds=2, traced=False))
    names = {"metanorm", "plain torch", "torch.nn", "equations"}
    assert {m.candidate for m in entry.measurements} == names and entry.left_out == ()
    assert all(f.peak >= entry.nbytes for f in entry.footprints)


def test_a_layer_that_overwrites_a_gradient_gets_its_own() -> None:
    rms_case = case("rms_norm")
    grad_outputs: list[torch.Tensor] = []
    for name, make in candidates(rms_case, traced=False):
        if name == "plain torch":
            candidate = make()
            candidate.overwrites = True
            candidate.layer = lambda x: _Overwriting.apply(x)
            (grad_output,) = rms_case.rotation.grad_outputs(candidate.forward().detach())
            grad_outputs.append(grad_output.clone())
            candidate.prepare("both")()()
            assert torch.equal(grad_output, grad_outputs[0])
    assert grad_outputs


class _Overwriting(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, grad_output: torch.Tensor) -> torch.Tensor:
        return grad_output.zero_()


# ---- clocks and workloads


class Late:
    """A clock of a device that goes on working when the host could go on."""

    def calls(self, seconds: float) -> int:
        return 3

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        for call in [prepare() for _ in range(calls)]:
            call()
        return Lap(2.0, 0.5)


def test_the_time_of_the_host_is_kept_beside_that_of_the_device() -> None:
    count: list[int] = []
    (timing,) = time_in_turns({"a": lambda: lambda: count.append(1)}, 5, Late()).values()
    assert (timing.median, timing.host) == (2.0, 0.5)
    assert len(count) == 5 * 3 + 4


def test_each_device_has_workloads_and_those_of_a_gpu_are_large() -> None:
    assert set(DEVICES) == {"cpu", "cuda"} and DEVICES["cpu"]().workloads == WORKLOADS
    assert all(w.nbytes >= 64 * MB for w in GPU_WORKLOADS)
    assert len({w.name for w in (*WORKLOADS, *GPU_WORKLOADS)}) == len(WORKLOADS) + len(
        GPU_WORKLOADS
    )
    programs = [one(name).program for name in SPECS]
    for workload in GPU_WORKLOADS:
        assert any(fitted_lengths(workload, program) is not None for program in programs), (
            workload.name
        )


# ---- what is reported


def entry(name: str, nbytes: int, **seconds: float) -> Entry:
    """An entry whose copy takes a second."""
    measurements = [
        Measurement(candidate=c, phase=phase, median=t, low=t, high=t, host=1e-5)
        for phase, t in seconds.items()
        for c, t in (("metanorm", t), ("torch.compile", 2 * t))
    ]
    return Entry(
        norm=name, workload="w", nbytes=nbytes, copy_seconds=1, measurements=tuple(measurements),
        footprints=(), left_out=("metanorm: ran on torch: so", "QuACK: not installed: pip"),
    )  # fmt: skip


def test_bytes_that_any_norm_has_to_move_are_held_against_the_copy() -> None:
    """A copy moves two tensors, a forward pass two, a backward pass three."""
    large_entry = entry("A", 10**9, forward=1.25, backward=1.5, both=5.0)
    assert large_entry.bandwidth == 2e9
    assert [large_entry.share("metanorm", p) for p in ("forward", "backward", "both")] == [
        0.8,
        1,
        0.5,
    ]
    assert (
        large_entry.share("metanorm", "sideways") is None
        and large_entry.share("Liger", "both") is None
    )


def shown(report: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(table_of(report), markup=False)
    return out.getvalue()


def test_a_table_of_a_gpu_has_shares_and_its_name() -> None:
    large_entry = entry("A", 10**9, forward=1.25, backward=1.5, both=5.0)
    table = shown(Report(machine=GPU, entries=(large_entry,)))
    assert "Some GPU" in table and "driver 550.1, CUDA 12.4" in table
    assert "1.25 (80%)" in table and "1.5 (100%)" in table and "10.00 us" in table
    assert "2 GB/s" in table and "ran on torch" in table and "left out" in table
    beside = shown(Report(machine=HERE, entries=(large_entry,)))
    assert "%" not in beside and "host" not in beside and "2 threads" in beside
    assert machine_text(GPU) != machine_text(HERE)


def test_a_summary_of_a_gpu_tells_directions_apart() -> None:
    entries = (
        entry("A", 100 * MB, forward=1.25, backward=3),
        entry("B", 64 * MB, forward=1.25, backward=6),
        entry("C", 4096, forward=2, backward=3),
    )
    assert list(summary(Report(machine=GPU, entries=entries))) == [
        "forward: 2.00 times as fast as torch.compile (2 inputs of 64 MB and more), "
        "at least 2.00 times (A, w)",
        "forward: 2.00 times as fast as torch.compile (1 inputs below 1 MB), "
        "at least 2.00 times (C, w)",
        "forward: 80% of the bandwidth of the copy (2 inputs of 64 MB and more), "
        "at least 80% (A, w)",
        "forward: 50% of the bandwidth of the copy (1 inputs below 1 MB), at least 50% (C, w)",
        "backward: 2.00 times as fast as torch.compile (2 inputs of 64 MB and more), "
        "at least 2.00 times (A, w)",
        "backward: 2.00 times as fast as torch.compile (1 inputs below 1 MB), "
        "at least 2.00 times (C, w)",
        "backward: 35% of the bandwidth of the copy (2 inputs of 64 MB and more), "
        "at least 25% (B, w)",
        "backward: 50% of the bandwidth of the copy (1 inputs below 1 MB), at least 50% (C, w)",
    ]


def test_a_driver_that_does_not_answer_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver() == "unknown"
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    smi.chmod(0o755)
    assert driver() == "550.54.15"


# ---- who else runs


def test_peers_are_those_of_the_device_installed_or_not() -> None:
    assert [p.package.name for p in peers("LayerNorm", "cuda")] == ["torch.nn", "Liger", "QuACK"]
    assert [p.package.name for p in peers("LayerNorm", "cpu")] == ["torch.nn"]
    assert [p.package.name for p in peers("GraphNorm", "cuda")] == [
        "PyG", "by hand", "torch-scatter"
    ]  # fmt: skip
    assert [p.package.name for p in package_peers("GraphNorm", "cuda")] == ["PyG"]
    assert peers("", "cuda") == ()
    nobody = Peer(Package("Nobody", "no_such_package", "no-such-wheel"), lambda *_: torch.nn.ReLU())
    with pytest.raises(NotInstalled, match="not installed: pip install no-such-wheel"):
        nobody.layer((2, 3), {})


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Peer(Package("Nobody", "no_such_package", "no-such-wheel"), lambda *_: torch.nn.ReLU())
    monkeypatch.setitem(LAYERS, "RMSNorm", (nobody,))  # type: ignore[arg-type]
    measured = measure_case(case("rms_norm", "RMSNorm"), Plan(rounds=1, traced=False))
    assert measured.left_out == ("Nobody: not installed: pip install no-such-wheel",)


def test_kernels_that_do_not_serve_a_call_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor in the memory of the CPU is none for kernels in Triton, which may have no GPU."""
    pytest.importorskip("triton")
    monkeypatch.setattr(errors, "_warned", True)
    rms_case = case("rms_norm", target="triton")
    layer, turn = rms_case.layer(rms_case.module), rms_case.rotation.turns[0]

    def demand(device: Device, module: ModuleType = rms_case.module) -> None:
        demand_kernels(rms_case.optimised, module, device, lambda: layer(*turn.inputs))

    demand(rms_case.device)
    gpu = Device("cuda", "triton", CpuClock(), 0, peak_bytes, WORKLOADS)
    with pytest.raises(
        RanOnTorch, match=r"the call has (a tensor .* on the GPU|no kernels: .*driver)"
    ):
        demand(gpu)
    with pytest.raises(RanOnTorch, match="compiled without kernels"):
        demand(gpu, case("rms_norm").module)
    with pytest.raises(RuntimeError, match="mine"):
        demand_kernels(rms_case.optimised, rms_case.module, rms_case.device, _mistake)


def _mistake() -> None:
    raise RuntimeError("mine: the calling is wrong")


# ---- what is refused, and where tensors go


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which is not refused")
@pytest.mark.parametrize("command", ["bench", "verify"])
def test_a_gpu_that_is_not_there_is_refused(command: str, tmp_path: Path) -> None:
    data = tmp_path / "folder" / "b.json"
    written = ("--json", str(data)) if command == "bench" else ()
    done = run(command, str(ROOT / "specs/rms_norm.norm"), "--device", "cuda", *written)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("metanorm: --device cuda needs a GPU, and torch ")
    assert len(done.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_why_there_is_no_gpu() -> None:
    assert "built for the CPU alone: https://pytorch.org" in why_no_gpu("2.9", None, None)
    assert "torch 2.9 (CUDA 12.4) finds none: `nvidia-smi`" in why_no_gpu("2.9", "12.4", None)
    assert "(ROCm 6.2)" in why_no_gpu("2.9", None, "6.2")


@pytest.mark.parametrize("memory", ["contiguous", "channels last", "transposed", "strided"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_lie_on_another_device_as_they_did(memory: str, device: str) -> None:
    x = with_layout(torch.randn(2, 3, 4, 5), memory)
    on_device = to_device(x, device)
    assert on_device.device.type == device and on_device.dtype == x.dtype and on_device.is_leaf
    assert (on_device.shape, on_device.stride()) == (x.shape, x.stride())
    piece = to_device(torch.arange(10)[3:7].expand(2, 4), device)
    assert (piece.stride(), piece.storage_offset()) == ((0, 1), 3)
