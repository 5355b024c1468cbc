"""Layers that compute what a norm of the library computes: of torch, PyG, Liger and QuACK.

The only place of the benchmark, beside the rows of `networks`, that knows norms by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]
Make = Callable[[Shape, Arguments], nn.Module]
SPATIAL = {3: "1d", 4: "2d", 5: "3d"}
EPS = torch.finfo(torch.float32).eps  # what an eps of `None` stands for, of half types, too


@dataclass(frozen=True)
class Package:
    """Where layers are from: as reports call it, as Python imports it, as pip installs it."""

    name: str
    module: str
    distribution: str
    devices: tuple[str, ...] = ("cpu", "cuda")


TORCH = Package("torch.nn", "torch", "torch")
PYG = Package("PyG", "torch_geometric", "torch-geometric")
LIGER = Package("Liger", "liger_kernel", "liger-kernel", devices=("cuda",))
QUACK = Package("QuACK", "quack", "quack-kernels", devices=("cuda",))


class NotInstalled(Exception):
    """A layer of a package that is not there."""


@dataclass(frozen=True)
class Peer:
    """A layer of somebody else. `overwrites` says that it writes to the gradient that it is given;
    `dtype` is that of its parameters, where they do not have that of the input."""

    package: Package
    make: Make
    overwrites: bool = False
    dtype: torch.dtype | None = None

    def layer(self, shape: Shape, arguments: Arguments) -> nn.Module:
        """The layer for an input of a shape. Raises `NotInstalled`."""
        if find_spec(self.package.module) is None:
            raise NotInstalled(f"not installed: pip install {self.package.distribution}")
        return self.make(shape, arguments)


def _with_rank(name: str, ranks: Mapping[int, str], **options: bool) -> Make:
    """`nn.BatchNorm2d` of `BatchNorm`, by the number of dimensions.

    What it makes raises `KeyError` for a number of dimensions that torch has no layer for.
    """

    def make(shape: Shape, _: Arguments) -> nn.Module:
        layer: nn.Module = getattr(nn, name + ranks[len(shape)])(shape[1], **options)
        return layer

    return make


def _of(module: str, name: str, *arguments: Any, **options: Any) -> nn.Module:
    """A layer of a package that may not be there, and is imported when it is needed."""
    layer: nn.Module = getattr(import_module(module), name)(*arguments, **options)
    return layer


def _liger(file: str, name: str, *arguments: Any, **options: Any) -> nn.Module:
    """A layer of Liger, by its file: the package names some of them for `transformers` alone."""
    return _of(f"liger_kernel.transformers.{file}", name, *arguments, **options)


def _row(given: Arguments) -> int:
    """The length of the rows that are normalized: other packages take one dimension alone."""
    *outer, length = given["normalized_shape"]
    if outer:
        raise ValueError("takes one normalized dimension alone")
    return int(length)


class _QuackLayerNorm(nn.Module):
    """QuACK's layer norm, which comes as two functions; its parameters have to be float32."""

    def __init__(self, length: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))
        self.bias = nn.Parameter(torch.zeros(length))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _QuackLayerNormFunction.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return y


class _QuackLayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        kernels = import_module("quack.rmsnorm")
        y: Tensor
        y, rstd, mean = kernels.layernorm_fwd(
            x, weight, bias, eps, return_rstd=True, return_mean=True
        )
        ctx.save_for_backward(x, weight, rstd, mean)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        x, weight, rstd, mean = ctx.saved_tensors
        kernels = import_module("quack.rmsnorm")
        return (*kernels.layernorm_bwd(x, weight, slope, rstd, mean, has_bias=True), None)


# The layers of Liger and QuACK have an epsilon of 1e-6 where nobody asks for that of torch.
def _liger_group_norm(shape: Shape, given: Arguments) -> nn.Module:
    return _liger("group_norm", "LigerGroupNorm", shape[1], given["num_groups"], eps=1e-5)


def _liger_layer_norm(_: Shape, given: Arguments) -> nn.Module:
    return _liger("layer_norm", "LigerLayerNorm", _row(given), eps=1e-5)


def _liger_rms_norm(_: Shape, given: Arguments) -> nn.Module:
    return _liger("rms_norm", "LigerRMSNorm", _row(given), eps=EPS)


def _liger_dynamic_tanh(_: Shape, given: Arguments) -> nn.Module:
    return _liger("dyt", "LigerDyT", _row(given))


def _quack_layer_norm(_: Shape, given: Arguments) -> nn.Module:
    return _QuackLayerNorm(_row(given), eps=1e-5)


def _quack_rms_norm(_: Shape, given: Arguments) -> nn.Module:
    return _of("quack.rmsnorm", "QuackRMSNorm", _row(given), eps=EPS)


def _graph_norm(shape: Shape, _: Arguments) -> nn.Module:
    return _of("torch_geometric.nn", "GraphNorm", shape[1])


# By the norm of the library that they equal; a user's norm finds them by its fingerprint.
PEERS: Mapping[str, tuple[Peer, ...]] = {
    "BatchNorm": (Peer(TORCH, _with_rank("BatchNorm", {2: "1d", **SPATIAL})),),
    "InstanceNorm": (Peer(TORCH, _with_rank("InstanceNorm", SPATIAL, affine=True)),),
    "GroupNorm": (
        Peer(TORCH, lambda shape, given: nn.GroupNorm(given["num_groups"], shape[1])),
        Peer(LIGER, _liger_group_norm),
    ),
    "LayerNorm": (
        Peer(TORCH, lambda _, given: nn.LayerNorm(given["normalized_shape"])),
        Peer(LIGER, _liger_layer_norm),
        Peer(QUACK, _quack_layer_norm, dtype=torch.float32),
    ),
    "RMSNorm": (
        Peer(TORCH, lambda _, given: nn.RMSNorm(given["normalized_shape"])),
        Peer(LIGER, _liger_rms_norm, overwrites=True),  # dy by dx, unless it is told not to
        Peer(QUACK, _quack_rms_norm),
    ),
    "DynamicTanh": (Peer(LIGER, _liger_dynamic_tanh),),
    "GraphNorm": (Peer(PYG, _graph_norm),),
}


def peers(known: str, device: str) -> tuple[Peer, ...]:
    """The layers that equal a norm of the library and run on a device, installed or not."""
    return tuple(p for p in PEERS.get(known, ()) if device in p.package.devices)
