"""Layers that have kernels, tensors that lie in odd ways, and a call with all that comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from conftest import LIBRARY
from torch import Tensor, nn

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.backends import use as use  # for all tests here
from metanorm.runtime.native import calls
from metanorm.runtime.targets import Target
from metanorm.targets.live import module_from_files

F64 = torch.float64
Make = Callable[[ModuleType], nn.Module]

# A matrix like no other of its kind: not symmetric, and with rows of different sums.
MIXING = torch.tensor([[1, 2, 3, 4], [4, 1, 1, 2], [0.5, 3, 1, 0.25], [1, 1, 1, 6]])

# For each layer, how it is made for four channels, and the shape of its first input.
LAYERS: Mapping[str, tuple[Make, tuple[int, ...]]] = {
    "batch_norm": (lambda m: m.BatchNorm(4), (3, 4, 5, 3)),
    "group_norm": (lambda m: m.GroupNorm(2, 4), (3, 4, 5, 3)),
    "layer_norm": (lambda m: m.LayerNorm((5, 3)), (3, 4, 5, 3)),
    "instance_norm": (lambda m: m.InstanceNorm(4, affine=True), (3, 4, 5, 3)),
    "switch_norm": (lambda m: m.SwitchNorm(4), (3, 4, 5, 3)),
    "positional_norm": (lambda m: m.PositionalNorm(), (3, 4, 5, 3)),
    "graph_norm": (lambda m: m.GraphNorm(4), (12, 4)),
    "ada_layer_norm": (lambda m: m.AdaLayerNorm(), (3, 4, 5)),
    "meta_norm": (lambda m: m.MetaNorm(4, U="ones", V=MIXING), (3, 4, 5, 3)),
}


def fresh_module(name: str) -> ModuleType:
    """The module of a spec of the library, of which no call has been and no kernel is loaded."""
    roots = [root for root in LIBRARY.roots if module_name(root) == name]
    files = compile_specs(LIBRARY.sources, roots, Options()).files
    return module_from_files(files, name)


def layer(name: str, library: ModuleType, dtype: torch.dtype = F64) -> nn.Module:
    """A layer of which no parameter is at its neutral value."""
    module = LAYERS[name][0](library).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module


def beside(name: str, x: Tensor) -> dict[str, Any]:
    """The other inputs of a layer."""
    if name == "graph_norm":
        return {"batch": torch.arange(len(x)) * 3 // len(x)}
    if name == "ada_layer_norm":
        shape = (x.shape[0], x.shape[2])
        return {"scale": torch.randn(shape).to(x.dtype), "shift": torch.randn(shape).to(x.dtype)}
    return {}


def outputs(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


Found = dict[str, Tensor]


def everything(
    target: Target, module: nn.Module, x: Tensor, others: Mapping[str, Any] = {},
    dy: Callable[[Tensor], Tensor] | None = None, *, unused: bool = False,
) -> Found:  # fmt: skip
    """Outputs, gradients and buffers of a copy of a module that runs on a target.

    `dy` makes the gradient of an output; without it, it is that of a plain sum. What no output
    depends on may be there if it is said to be `unused`.
    """
    module = copy.deepcopy(module)
    leaves = {
        n: t.detach().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t
        for n, t in others.items()
    }
    x = x.detach().requires_grad_()
    with use(target):
        ys = outputs(module(x, **leaves))
    if dy is None:
        total = torch.stack([y.sum() for y in ys]).sum()
        total.backward()  # type: ignore[no-untyped-call]
    else:
        torch.autograd.backward(ys, [dy(y.detach()) for y in ys])
    results: Found = {f"output {i}": y.detach() for i, y in enumerate(ys)}
    named = {"x": x, **leaves, **dict(module.named_parameters())}
    for name, leaf in named.items():
        if isinstance(leaf, Tensor) and leaf.requires_grad and not (unused and leaf.grad is None):
            assert leaf.grad is not None, name
            results[f"gradient of {name}"] = leaf.grad
    results.update(module.named_buffers())
    return results


def agree(actual: Found, right: Found, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    assert list(actual) == list(right)
    for name, tensor in actual.items():
        try:
            torch.testing.assert_close(tensor, right[name], rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def weighted(y: Tensor) -> Tensor:
    """A gradient that is another one at each place, and the same for each target."""
    line = torch.linspace(-1, 2, y.numel(), dtype=F64).sin().view(y.shape)
    return line.to(y.dtype)


class Counted:
    """How many kernels have run since this was made."""

    def __init__(self) -> None:
        self.before = sum(calls.runs)

    def __len__(self) -> int:
        return sum(calls.runs) - self.before


@contextmanager
def kernels_counted() -> Iterator[Counted]:
    """The kernels that run."""
    yield Counted()


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def transposed(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def strided(x: Tensor) -> Tensor:
    wide = torch.full((*x.shape, 2), float("nan"), dtype=x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def shifted(x: Tensor) -> Tensor:
    """Not at the beginning of its memory, nor where vectors would like it to begin."""
    return torch.cat([x.new_zeros(3), x.flatten()])[3:].view(x.shape)


def expanded_first(x: Tensor) -> Tensor:
    return x[:1].expand(x.shape)


def expanded_second(x: Tensor) -> Tensor:
    return x[:, :1].expand(x.shape)


def expanded_whole(x: Tensor) -> Tensor:
    return x.flatten()[0].expand(x.shape)


# Where the dimensions behind *S and *D lie in one piece.
REGULAR: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": channels_last,
    "transposed": transposed,
    "strided": strided,
    "shifted": shifted,
    "expanded first": expanded_first,
    "expanded second": expanded_second,
    "expanded whole": expanded_whole,
}


def holey(x: Tensor) -> Tensor:
    """The last two axes are not one."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 1), float("nan"), dtype=x.dtype)
    wide[..., 1:] = x
    return wide[..., 1:]


def twisted(x: Tensor) -> Tensor:
    """The last two axes in the order of the other."""
    return x.mT.contiguous().mT


def last_expanded(x: Tensor) -> Tensor:
    return x[..., :1].expand(x.shape)


ODD: Mapping[str, Callable[[Tensor], Tensor]] = {
    "holey": holey,
    "twisted": twisted,
    "last expanded": last_expanded,
}
