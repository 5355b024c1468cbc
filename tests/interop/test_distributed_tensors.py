"""Norms and `DTensor`s: in one process, and in two that send each other what a pool needs."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS, ROOT
from sharded import call_of, outcome
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.nn.utils import parametrize

from metanorm import runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch warns of itself is not ours
ACTIVATIONS = [name for name, program in PROGRAMS.items() if program.target == "activation"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    store = tmp_path_factory.mktemp("gloo") / "store"
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_whole_and_sharded_samples(name: str, mesh: DeviceMesh, library: ModuleType) -> None:
    for training in (True, False):
        call = call_of(PROGRAMS[name], library, training)
        assert outcome(call, mesh, Replicate()) == "equal"
        assert outcome(call, mesh, Shard(0)) == "equal"


def test_plain_parameters_and_inputs_are_refused(mesh: DeviceMesh, library: ModuleType) -> None:
    x = distribute_tensor(torch.randn(4, 6, 5), mesh, [Shard(0)])
    with pytest.raises(
        TypeError, match=r"BatchNorm: x is a DTensor, and weight is not.*distribute_"
    ):
        library.BatchNorm(6)(x)
    norm = distribute_module(library.MaskedBatchNorm(6), mesh)
    with pytest.raises(TypeError, match="x is a DTensor, and another input is not"):
        norm(x, torch.ones(4, 5, dtype=torch.bool))
    wrong = distribute_tensor(torch.randn(4, 5, 5), mesh, [Shard(0)])
    with pytest.raises(runtime.ShapeError, match=r"BatchNorm: x has shape \[4, 5, 5\]"):
        distribute_module(library.BatchNorm(6), mesh)(wrong)


def test_what_torch_cannot_do_is_named(
    mesh: DeviceMesh, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("Operator aten.var_mean does not have a sharding strategy")

    norm = library.GroupNorm(2, 6)
    parametrize.register_parametrization(norm, "weight", nn.Identity())  # no piece of it is known
    distribute_module(norm, mesh)
    x = distribute_tensor(torch.randn(4, 6, 5), mesh, [Shard(2)])
    monkeypatch.setattr(runtime, "moments", unknown)
    with pytest.raises(NotImplementedError, match=r"GroupNorm: .*Shard\(dim=2\).*aten.var_mean"):
        norm(x)
    monkeypatch.undo()
    assert isinstance(norm(x), DTensor)  # the next call is as if nothing had happened
    torch.testing.assert_close(copy.deepcopy(norm)(x).full_tensor(), norm(x).full_tensor())


def test_pieces_run_on_kernels(mesh: DeviceMesh, library: ModuleType) -> None:
    x = torch.randn(4, 6, requires_grad=True)
    norm = library.LayerNorm(6)
    wanted = norm(x)
    (gradient,) = torch.autograd.grad(wanted.pow(3).sum(), x)
    leaf = distribute_tensor(x.detach(), mesh, [Shard(0)]).requires_grad_()
    distribute_module(norm, mesh)
    with runtime.use("native"):
        y = norm(leaf)
    y.pow(3).sum().backward()
    assert y.placements == (Shard(0),) and leaf.grad is not None
    torch.testing.assert_close(y.full_tensor(), wanted)
    torch.testing.assert_close(leaf.grad.full_tensor(), gradient)


@pytest.mark.extended
def test_two_processes(tmp_path: Path) -> None:
    """Every dimension of the first input in turn lies in two halves."""
    script = str(Path(__file__).with_name("sharded.py"))
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    workers = [
        subprocess.Popen(
            [sys.executable, script, str(tmp_path), str(rank)],
            env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for out, error, worker in [(*w.communicate(timeout=1200), w) for w in workers]:
        assert worker.returncode == 0, error[-2000:]
        results = [line.rpartition(": ") for line in out.splitlines()]
        assert len(results) > 30
        assert [call for call, _, result in results if result != "equal"] == []
