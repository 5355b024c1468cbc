"""Parameters, buffers and matrices that somebody replaced by ones of another shape.

Every call of every norm says so, on torch and on kernels, and changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import call_module, make_module


def of_other_shapes(tensor: Tensor) -> Iterator[Tensor]:
    """What torch would repeat, what is longer, and what has more dimensions or none."""
    yield tensor.new_ones((1, *tensor.shape))
    if tensor.dim():
        yield tensor.new_ones((2 * tensor.shape[0], *tensor.shape[1:]))
        yield tensor.new_ones(())
    if tensor.numel() != 1:
        yield tensor.new_ones([1] * tensor.dim())


def put(norm: nn.Module, name: str, other: Tensor) -> None:
    if name in norm._parameters:
        norm._parameters[name] = nn.Parameter(other)
    else:
        norm._buffers[name] = other


@pytest.mark.parametrize("training", [True, False])
def test_a_tensor_of_another_shape(program: Program, training: bool, library: ModuleType) -> None:
    setting = Setting("call", training=training)
    built = make_example(program, setting)
    norm = make_module(program, library, built, setting)
    for name, tensor in {**norm._parameters, **norm._buffers}.items():
        if tensor is None or name == "num_batches_tracked":
            continue
        for other in of_other_shapes(tensor):
            changed = copy.deepcopy(norm)
            put(changed, name, other)
            before = copy.deepcopy(changed.state_dict())
            for target in ("auto", "torch"):
                with runtime.use(target), pytest.raises(runtime.ShapeError):  # type: ignore[arg-type]
                    call_module(program, changed, built.inputs, built)
            for key, value in changed.state_dict().items():
                assert value.equal(before[key]), (name, other.shape, key)


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_lengths_that_no_input_has(target: Any) -> None:
    """A number of the spec, and an argument of the constructor."""
    norm = metanorm.loads("""
norm Mixed(parts: int) {
  input  x[N, C, *S]
  param  share[K = parts] = 0.5, other[J = 3] = 0.5
  output (x - mean(x over C, *S)) * sum(share over K) + other[0]
}
""").Mixed(2)
    x = torch.randn(4, 3, 5)
    expected = x - x.mean((1, 2), keepdim=True) + 0.5
    with runtime.use(target):
        torch.testing.assert_close(norm(x), expected)
        for name, length in (("share", 3), ("share", 1), ("other", 1), ("other", 4)):
            changed = copy.deepcopy(norm)
            put(changed, name, torch.ones(length))
            with pytest.raises(runtime.ShapeError, match=rf"{name} has shape \[{length}\]"):
                changed(x)


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (3, 3, 1), (2, 2)])
def test_a_matrix_of_another_shape(shape: tuple[int, ...], target: Any) -> None:
    norm = metanorm.loads("""
norm Pooled(M: matrix[C, C] = eye) { input x[N, C]  output x - mean(x over C: M) }
""").Pooled(torch.ones(3, 3))
    norm.M = torch.ones(shape)
    with runtime.use(target), pytest.raises(runtime.ShapeError, match=r"M is .*, but its axis"):
        norm(torch.randn(2, 3))
