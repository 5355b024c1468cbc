"""What a norm may cost: how often it looks at its input, and what it keeps of its size."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metanorm import runtime
from metanorm.bench.memory import peak_bytes

SHAPE = (8, 16, 14, 14)


class Watch(TorchDispatchMode):
    """Notes the reductions of a tensor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.reductions: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [a for a in args if isinstance(a, Tensor)]
        outputs = [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None]
        large = [a for a in inputs if a.numel() == self.size]
        if large and all(o.numel() < self.size for o in outputs):
            self.reductions.append(str(func))
        return result


def kept(module: nn.Module, x: Tensor) -> int:
    """How many tensors of the size of `x` wait for the backward pass, each storage once."""
    storages: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() == x.numel():
            storages.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return len(storages)


LAYERS = {
    "BatchNorm": (16,),
    "InstanceNorm": (16,),
    "GroupNorm": (4, 16),
    "SwitchNorm": (16,),
    "BatchInstanceNorm": (16,),
    "MetaNorm": (16,),
}


@pytest.fixture(autouse=True)
def on_torch() -> Iterator[None]:
    """Kernels do nothing that torch could be watched doing."""
    with runtime.use("torch"):
        yield


@pytest.mark.parametrize("name", LAYERS)
def test_the_input_has_its_moments_taken_once_and_is_kept_once(
    name: str, library: ModuleType
) -> None:
    """One pass for the mean, one for what it leaves over, however many statistics there are."""
    module = getattr(library, name)(*LAYERS[name])
    x = torch.randn(SHAPE, requires_grad=True)
    with Watch(x.numel()) as watch:
        y = module(x)
    assert watch.reductions == ["aten.mean.dim", *["aten.sum.dim_IntList"] * 2]
    assert kept(module, x) == 1
    assert y.shape == x.shape


@pytest.mark.parametrize("name", LAYERS)
def test_without_gradients_only_the_result_is_made(
    name: str, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An input that is large, for a cache this small.
    monkeypatch.setattr("metanorm.runtime.mean_and_variance.CHUNK", 1000)
    module = getattr(library, name)(*LAYERS[name])
    x = torch.randn(SHAPE)
    with torch.no_grad():
        assert peak_bytes(lambda: module(x)) < 2 * x.nbytes


def test_a_mask_is_not_spread_over_the_input(library: ModuleType) -> None:
    x, mask = torch.randn(8, 64, 12), torch.rand(8, 12) < 0.7
    module = library.MaskedBatchNorm(64)
    with torch.no_grad():
        assert peak_bytes(lambda: module(x, mask)) < 5 * x.nbytes
