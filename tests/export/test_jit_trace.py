"""Norms in `torch.jit.trace`: lengths stay open, and what depends on one otherwise is refused."""

from __future__ import annotations

import copy
import io
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from calls import agree, calls
from conftest import PROGRAMS, ROOT
from torch import Tensor, nn

sys.path.insert(0, str(ROOT))

import metanorm
from docs.export_routes import within_segments

ACTIVATIONS = [name for name, program in PROGRAMS.items() if program.target == "activation"]


@pytest.fixture(autouse=True)
def deprecated() -> Any:
    """Torch deprecates traces. A warning that a trace has baked in a length stays an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", torch.jit.TracerWarning)
        yield


def trace(module: Any, *inputs: Tensor, **named: Tensor) -> Any:
    named_inputs: dict[str, Any] = (
        {"example_kwarg_inputs": named} if named else {"example_inputs": inputs}
    )
    return torch.jit.trace(module, **named_inputs, check_trace=False)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_traces_serve_other_lengths(name: str, training: bool, library: ModuleType) -> None:
    example = calls(PROGRAMS[name], library, training)
    for arguments in (
        example.first,
        example.second,
    ):  # a trace takes tensors alone: groups are counted
        for key in [key for key, value in arguments.items() if not isinstance(value, Tensor)]:
            del arguments[key]
    module = copy.deepcopy(example.module)
    if training and PROGRAMS[name].backward is not None:
        with pytest.raises(RuntimeError, match="states its own backward pass"):
            trace(module, **example.first)
        return
    traced = trace(module, **example.first)
    if within_segments(PROGRAMS[name]):
        with pytest.raises(torch.jit.Error, match=r"trace it again, or use torch\.export"):
            traced(**example.second)
        return
    for arguments in (example.second, example.first):
        module.load_state_dict(example.module.state_dict())  # the trace has the same buffers
        agree(traced, example.module, arguments, rtol=1e-9, atol=1e-9)


def test_the_number_of_groups_is_open(library: ModuleType) -> None:
    norm = library.GraphNorm(4)
    traced = trace(norm, torch.randn(5, 4), torch.tensor([0, 0, 1, 1, 1]))
    x, batch = torch.randn(7, 4), torch.tensor([0, 1, 1, 2, 3, 3, 3])
    torch.testing.assert_close(traced(x, batch), norm(x, batch))


REFUSED: dict[str, tuple[Callable[[ModuleType], nn.Module], Tensor, Tensor]] = {
    "a batch of one sample": (lambda m: m.BatchNorm(3), torch.randn(4, 3), torch.randn(1, 3)),
    "no samples": (lambda m: m.LayerNorm(3), torch.randn(4, 3), torch.randn(0, 3)),
    "another number of channels": (
        lambda m: m.GroupNorm(2, 4, affine=False), torch.randn(2, 4, 3), torch.randn(2, 6, 3),
    ),
    "one more dimension": (
        lambda m: m.InstanceNorm(3), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4, 4),
    ),
    "one more leading dimension": (
        lambda m: m.PixelNorm(), torch.randn(2, 3, 4), torch.randn(2, 3, 4, 4),
    ),
    "another dtype": (lambda m: m.RMSNorm(3), torch.randn(4, 3), torch.randn(4, 3).half()),
    "a share of another length": (
        lambda m: m.PartialRMSNorm(8), torch.randn(4, 8), torch.randn(4, 9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_example_has_decided_is_guarded(case: str, library: ModuleType) -> None:
    make, example, other = REFUSED[case]
    module = make(library)
    traced = trace(module, example)
    with pytest.raises(Exception, match=rf"{type(module).__name__} was traced with an input of sh"):
        traced(other)
    torch.testing.assert_close(traced(example), make(library)(example))


def test_guards_are_saved_and_survive_freezing(library: ModuleType) -> None:
    traced = trace(library.GroupNorm(2, 4, affine=False).eval(), torch.randn(2, 4, 3))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for program in (
        loaded,
        torch.jit.freeze(loaded.eval()),
        torch.jit.optimize_for_inference(loaded),
    ):
        with pytest.raises(Exception, match=r"shape \[2, 4, 3\] and of torch.float32"):
            program(torch.randn(2, 6, 3))


def test_a_model_and_a_function_are_guarded(library: ModuleType) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), library.SwitchNorm(4), nn.ReLU()).eval()
    traced = trace(model, torch.randn(2, 3, 5, 5))
    x = torch.randn(4, 3, 6, 7)
    torch.testing.assert_close(traced(x), model(x))
    with pytest.raises(Exception, match="SwitchNorm was traced"):
        traced(torch.randn(0, 3, 5, 5))

    def function(x: Tensor) -> Any:
        return library.group_norm.group_norm(x, None, None, 2, 1e-5)

    traced = trace(function, torch.randn(2, 4, 3))
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(traced(x), function(x))
    with pytest.raises(Exception, match="group_norm was traced"):
        traced(torch.randn(0, 4, 3))


def test_fractions_of_lengths_are_as_precise_as_the_model() -> None:
    norm = metanorm.loads("norm Scaled {\n  input  x[N, C]\n  output x / (size(C) + 0.5) ^ 0.3\n}")
    module = norm.Scaled()
    traced = trace(module, torch.randn(2, 3, dtype=torch.float64))
    x = torch.randn(4, 7, dtype=torch.float64)
    torch.testing.assert_close(traced(x), module(x), rtol=1e-14, atol=0)
