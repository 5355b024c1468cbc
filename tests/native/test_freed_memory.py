"""Every tensor of a module and of a call whose memory was freed, on torch and on kernels.

Torch's own functions end the process at one. Here each ends in words, with all state as it was, or
was not needed: then the results are those with it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

import metanorm
from metanorm import runtime

GRAPHS = {"x": (6, 4), "batch": (6,)}
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "BatchNorm": ("batch_norm", (4,), {}, {"x": (6, 4, 5)}),
    "GroupNorm": ("group_norm", (2, 4), {}, {"x": (6, 4, 5)}),
    "RMSNorm": ("rms_norm", (5,), {}, {"x": (6, 4, 5)}),
    "GraphNorm": ("graph_norm", (4,), {}, GRAPHS),
    "InstanceNorm": ("instance_norm", (4,), {"track_running_stats": True}, {"x": (6, 4, 5)}),
    "MaskedBatchNorm": ("masked_batch_norm", (4,), {}, {"x": (6, 4, 5), "mask": (6, 5)}),
    "BatchRenorm": ("batch_renorm", (4,), {}, {"x": (6, 4, 5)}),
}


class Call(NamedTuple):
    """A norm, what a call brings, and all tensors of both by name."""

    norm: nn.Module
    inputs: dict[str, Tensor]

    @property
    def state(self) -> dict[str, Tensor]:
        return {**dict(self.norm.named_parameters()), **dict(self.norm.named_buffers())}

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {**self.inputs, **self.state}

    def result(self) -> Tensor:
        made: Tensor = self.norm(**self.inputs)
        return (made * torch.linspace(0, 1, made.numel()).view(made.shape)).sum()


@functools.cache
def class_of(name: str) -> Any:
    return getattr(metanorm.load(ROOT / "specs" / f"{CASES[name][0]}.norm"), name)


def laid(tensor: Tensor, strided: bool) -> Tensor:
    """A tensor of its own, maybe with room between its elements."""
    return torch.stack([tensor, tensor], -1)[..., 0] if strided else tensor.clone()


def made(name: str, training: bool, strided: bool) -> Call:
    _, arguments, named, shapes = CASES[name]
    norm = class_of(name)(*arguments, **named).train(training)
    values = torch.Generator().manual_seed(0)
    kinds = {
        "x": lambda shape: torch.randn(shape, generator=values),
        "mask": lambda shape: torch.arange(shape[0] * shape[1]).view(shape) % 3 > 0,
        "batch": lambda shape: torch.arange(shape[0]) // 3,
    }
    inputs = {n: laid(kinds[n](shape), strided) for n, shape in shapes.items()}
    inputs["x"].requires_grad_()
    call = Call(norm, inputs)
    for tensor in call.state.values():
        tensor.data = laid(tensor.data, strided)
    return call


def free(tensor: Tensor) -> None:
    tensor.data.untyped_storage().resize_(0)


LAYOUTS = pytest.mark.parametrize("strided", [False, True], ids=["plain", "strided"])
MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
TARGETS = pytest.mark.parametrize("target", ["auto", "torch"])


@pytest.mark.parametrize("name", CASES)
@LAYOUTS
@MODES
@TARGETS
def test_before_the_call(name: str, strided: bool, training: bool, target: Any) -> None:
    """Of a layout that is new, and of one that is known."""
    refused = set()
    with runtime.use(target):
        intact = made(name, training, strided)
        expected = intact.result()
        for which in intact.tensors:
            for known in (False, True):
                call = made(name, training, strided)
                if known:
                    call.result()
                before = {n: t.detach().clone() for n, t in call.state.items()}
                free(call.tensors[which])
                try:
                    actual = call.result()
                except RuntimeError as error:
                    assert "was freed" in str(error)
                    refused.add(which)
                    kept = {n: t for n, t in call.state.items() if n != which}
                    assert all(torch.equal(t, before[n]) for n, t in kept.items())
                else:
                    assert known or torch.equal(actual, expected)
    read = {*intact.inputs, *dict(intact.norm.named_parameters())} - {"mask"}
    assert read <= refused


@pytest.mark.parametrize("name", CASES)
@LAYOUTS
@MODES
@TARGETS
def test_between_the_directions(name: str, strided: bool, training: bool, target: Any) -> None:
    with runtime.use(target):
        intact = made(name, training, strided)
        intact.result().backward()
        for which in intact.tensors:
            call = made(name, training, strided)
            result = call.result()
            free(call.tensors[which])
            try:
                result.backward()
            except RuntimeError as error:
                assert "was freed" in str(error)
            else:
                torch.testing.assert_close(call.inputs["x"].grad, intact.inputs["x"].grad)


def test_a_gradient_that_was_freed() -> None:
    call = made("GroupNorm", True, False)
    result = call.norm(**call.inputs)
    gradient = laid(torch.ones_like(result), True)
    free(gradient)
    with pytest.raises(RuntimeError, match="was freed"):
        result.backward(gradient)


@TARGETS
def test_a_counter_of_batches_that_is_averaged_by(target: Any) -> None:
    norm = class_of("BatchNorm")(4, momentum=None)
    before = norm.running_mean.clone()
    free(norm.num_batches_tracked)
    with runtime.use(target), pytest.raises(RuntimeError, match="was freed"):
        norm(torch.randn(6, 4, 5))
    assert torch.equal(norm.running_mean, before)
