"""Compiled norms under `torch.compile`: one graph, any sizes, the same numbers."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS, ROOT
from samples import loss, sample, tensors
from tiers import covering, modes, tiered
from torch import Tensor, nn

from metanorm.ir.program import Program

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def gradients(module: nn.Module, arguments: dict[str, Any], name: str) -> tuple[Tensor, ...]:
    """Outputs, and the gradients of an input and all parameters."""
    x = arguments[name].clone().requires_grad_()
    torch.manual_seed(0)
    result = module(**{**arguments, name: x})
    grads = torch.autograd.grad(loss(result), [x, *module.parameters()])
    return (*tensors(result), *grads)


def agree(compiled: Any, module: nn.Module, arguments: dict[str, Any], name: str) -> None:
    for ours, eager in zip(
        gradients(compiled, arguments, name), gradients(module, arguments, name)
    ):
        torch.testing.assert_close(ours, eager, rtol=1e-9, atol=1e-9)


# Whether a norm is one graph shows before any backend has it; half of the time is the backend's.
MODES = [
    *((name, training, "aot_eager") for name, p in PROGRAMS.items() for training in modes(p)),
    *((name, True, "eager") for name in covering(PROGRAMS)),
]
QUICK = [mode for mode in MODES if mode[2] == "eager"]
QUICK += [(name, True, "aot_eager") for name in ("BatchNorm", "GraphNorm", "SwitchNorm")]


@pytest.mark.parametrize(
    "mode", tiered(MODES, QUICK), ids=lambda w: f"{w[0]} {'eval' * (not w[1])} {w[2]}"
)
def test_one_graph_for_all_sizes(mode: tuple[str, bool, str], library: ModuleType) -> None:
    name, training, backend = mode
    program = PROGRAMS[name]
    module, arguments = sample(program, library, training=training)
    twin = copy.deepcopy(module)
    # What a backward pass stores in buffers no graph can hold; in evaluation it is not there.
    is_whole = program.backward is None or not training
    compiled = torch.compile(twin, fullgraph=is_whole, dynamic=True, backend=backend)
    name = program.inputs[0].name
    agree(compiled, module, arguments, name)
    for buffer, eager_buffer in zip(twin.buffers(), module.buffers()):
        torch.testing.assert_close(buffer, eager_buffer)
    groups = {axis.name for axis in program.axes if axis.variadic}
    if program.for_weights and any(groups & set(decl.dims) for decl in program.state):
        return  # what has been made for one weight, or its gradient, fits no larger one
    _, larger = sample(program, library, training=training, space=(5, 4))
    agree(compiled, module, larger, name)


@pytest.mark.parametrize("with_size", [True, False], ids=["with batch_size", "without"])
def test_graph_norm_is_one_graph(with_size: bool, library: ModuleType) -> None:
    """Without `batch_size` the number of graphs is in the data: torch needs its leave for that."""
    module = library.GraphNorm(4).double()
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
        for count in (12, 20):
            batch = torch.arange(count) // 4
            size = {"batch_size": 5} if with_size else {}
            arguments = {"x": torch.randn(count, 4, dtype=torch.float64), "batch": batch, **size}
            agree(compiled, module, arguments, "x")


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("program", ["BatchNorm", "SwitchNorm", "GraphNorm"], indirect=True)
def test_inductor_agrees(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, dynamic=True)
    agree(compiled, module, arguments, program.inputs[0].name)


def test_all_norms_of_the_library_are_here() -> None:
    specs = (ROOT / "specs").glob("*.norm")
    declared = [w for path in specs for w in re.findall(r"^norm (\w+)", path.read_text(), re.M)]
    assert sorted(PROGRAMS) == sorted(declared)
