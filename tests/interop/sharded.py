"""Calls of norms with a `DTensor`, held against those with the whole tensor.

As a script, it is one of two processes: `sharded.py FOLDER RANK` prints a line for each call.
"""

from __future__ import annotations

import copy
import os
import sys
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import make_module

# The usual layers, and one that mixes their pools, with the files of their specs.
NORMS = {
    "BatchNorm": "batch_norm.norm",
    "GroupNorm": "group_norm.norm",
    "InstanceNorm": "instance_norm.norm",
    "LayerNorm": "layer_norm.norm",
    "RMSNorm": "rms_norm.norm",
    "SwitchNorm": "switch_norm.norm",
}
PATIENCE = timedelta(minutes=10)  # with a process that has failed; others may be slow


@dataclass
class Call:
    module: nn.Module
    inputs: list[Tensor]
    counts: dict[str, int]


def call_of(program: Program, library: ModuleType, training: bool) -> Call:
    setting = Setting("call", training=training, space=(4, 2))
    built = make_example(program, setting)
    module = make_module(program, library, built, setting)
    inputs = [x for x in built.inputs.values() if x is not None]
    return Call(module, inputs, {f"{name}_size": n for name, n in built.groups.items()})


def outcome(call: Call, mesh: Any, placement: Any) -> str:
    """`equal`, where results, all gradients and all buffers are; else what differs."""
    from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor

    whole, parts = copy.deepcopy(call.module), copy.deepcopy(call.module)
    distribute_module(parts, mesh)
    first, *others = call.inputs
    x = first.clone().requires_grad_()
    leaf = distribute_tensor(first, mesh, [placement]).requires_grad_()
    rest = [distribute_tensor(other, mesh, [Replicate()]) for other in others]
    wanted = results(whole, x, others, call.counts)
    actual = results(parts, leaf, rest, call.counts)
    try:
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)
    except AssertionError as error:
        return " ".join(str(error).split())
    return "equal"


def results(
    module: nn.Module, x: Tensor, others: list[Tensor], counts: dict[str, int]
) -> list[Tensor | None]:
    torch.manual_seed(0)
    y = module(x, *others, **counts)
    outputs = [y] if isinstance(y, Tensor) else list(y)
    sum(y.pow(3).sum() for y in outputs).backward()  # type: ignore[union-attr]
    gradients = [leaf.grad for leaf in (x, *module.parameters())]
    return [_gathered(t) for t in (*outputs, *gradients, *module.buffers())]


def _gathered(x: Any) -> Tensor | None:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def main(folder: str, rank: int) -> None:
    from conftest import PROGRAMS, ROOT
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard

    import metanorm

    warnings.simplefilter("ignore")
    store = f"file://{Path(folder) / 'store'}"
    distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=2, timeout=PATIENCE
    )
    mesh = init_device_mesh("cpu", (2,))
    for name, file in NORMS.items():
        library = metanorm.load(ROOT / "specs" / file)
        for training in (True, False):
            call = call_of(PROGRAMS[name], library, training)
            shape = call.inputs[0].shape
            for d in (d for d, length in enumerate(shape) if length % 2 == 0):
                result = outcome(call, mesh, Shard(d))
                print(f"{name} {'in training' if training else 'in evaluation'} by {d}: {result}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
    # All is printed. Now and then a process aborts in threads of gloo, as Python takes it apart.
    sys.stdout.flush()
    os._exit(0)
