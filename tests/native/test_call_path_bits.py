"""Both paths of calls give the same bits, whatever the lengths, and however tensors lie.

A plan of the path through C is made from one call and serves others. So calls of many shapes go
through one norm, in an order in which most find a plan that another shape has left.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from layers import (
    LAYERS,
    beside,
    channels_last,
    everything,
    layer,
    strided,
    transposed,
    weighted,
)  # fmt: skip
from paths import functions, takes_c, through_c, used
from tiers import covering, one_precision, tiered
from torch import Tensor, nn

from metanorm.runtime.backends import through_python
from metanorm.runtime.errors import SingleValueError
from metanorm.runtime.targets import CALL_PATH_TARGET
from metanorm.verify.cases import make_example
from metanorm.verify.compare import make_module

pytestmark = through_c  # elsewhere there is nothing to compare

Lies = Callable[[Tensor], Tensor]
LAID_OUT: dict[str, Lies] = {
    "contiguous": torch.clone, "channels last": channels_last, "transposed": transposed,
    "strided": strided,
}  # fmt: skip


def expanded(y: Tensor) -> Tensor:
    """The gradient of a sum: one number, at every place."""
    return y.new_full((), 0.75).expand_as(y)


def in_pieces(y: Tensor) -> Tensor:
    """A gradient whose last dimensions are in no order that a kernel reads."""
    if y.dim() < 2:
        return weighted(y)
    return weighted(y).transpose(-1, -2).contiguous().transpose(-1, -2)


GRADIENTS = {"weighted": weighted, "expanded": expanded, "in pieces": in_pieces}


def shapes(first: tuple[int, ...], fixed: int) -> list[tuple[int, ...]]:
    """Other shapes of an input, of which all dimensions from `fixed` on are as they are."""
    results = [first]
    for lengths in ([2, 7, 3], [1, 4, 1], [5, 1, 2], [9, 2, 6]):
        free = [d for d in range(len(first)) if d != 1 and d < fixed]
        shape = list(first)
        for d, length in zip(free, lengths):
            shape[d] = length
        results.append(tuple(shape))
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, dtype: torch.dtype, library: ModuleType) -> None:
    module = layer(name, library, dtype)
    module(torch.ones(LAYERS[name][1], dtype=dtype), **beside(name, torch.ones(LAYERS[name][1])))
    assert takes_c(module)
    fixed = {"layer_norm": 2, "ada_layer_norm": 2, "meta_norm": 0}.get(name, 9)
    for shape in shapes(LAYERS[name][1], fixed):
        for lies in LAID_OUT.values():
            x = lies(torch.randn(shape).to(dtype) * 3 + 1)
            others = beside(name, x)
            for gradient in GRADIENTS.values():
                compare(module, x, others, gradient)


def compare(module: nn.Module, x: Tensor, others: dict[str, Any], gradient: Any) -> None:
    """Everything that comes out is the same to the last bit, and so is a refusal."""
    with through_python():
        right = outcome(module, x, others, gradient)
    actual = outcome(module, x, others, gradient)
    if isinstance(right, str) or isinstance(actual, str):
        assert actual == right
        return
    assert list(actual) == list(right)
    for name, tensor in actual.items():
        same = torch.equal(tensor.nan_to_num(9), right[name].nan_to_num(9))
        assert same and tensor.stride() == right[name].stride(), (name, tuple(x.shape), x.stride())


def outcome(
    module: nn.Module, x: Tensor, others: dict[str, Any], gradient: Any
) -> dict[str, Tensor] | str:
    """What a call and its gradients give, or the words in which the norm refuses single values.
    Norms that draw numbers draw the same ones in each call."""
    torch.manual_seed(0)
    try:
        return everything("auto", module, x, others, gradient, unused=True)
    except SingleValueError as refusal:
        return str(refusal)


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "graph_norm", "switch_norm"])
def test_a_plan_serves_other_lengths(name: str, library: ModuleType) -> None:
    """Python makes a plan of the first batch, and sees none of the others."""
    module = layer(name, library)
    n, *rest = LAYERS[name][1]
    plans_seen = []
    for length in (n, 24, 36, 6):
        x = torch.randn(length, *rest, dtype=torch.float64)
        y = module(x, **beside(name, x))
        y.sum().backward()
        plans_seen.append(sum(len(f._plan_caches[CALL_PATH_TARGET]._plans) for f in used(module)))
    assert len(set(plans_seen)) == 1


ACTIVATIONS = {name: p for name, p in PROGRAMS.items() if p.target == "activation"}


@pytest.mark.parametrize("name", tiered(ACTIVATIONS, covering(ACTIVATIONS)))
def test_library(name: str, library: ModuleType) -> None:
    """Each setting of a norm after the others: most find plans that were made of another one."""
    program = ACTIVATIONS[name]
    for setting in one_precision(program):
        built = make_example(program, setting)
        module = make_module(program, library, built, setting)
        if not functions(module):
            pytest.skip("it has no kernels")
        first = program.inputs[0]
        arguments = {n: x for n, x in built.inputs.items() if n != first.name}
        arguments |= {f"{n}_size": count for n, count in built.groups.items()}
        x = built.inputs[first.name]
        assert x is not None
        compare(module, x, arguments, weighted)
