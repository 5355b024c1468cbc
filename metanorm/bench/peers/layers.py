"""Layers of torch, PyG, Liger and QuACK, by the norm of the library that they equal."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.peers.peer import Arguments, MakeLayer, Package, Peer, Shape, State

SPATIAL = {3: "1d", 4: "2d", 5: "3d"}
EPS = torch.finfo(torch.float32).eps  # the default eps of RMSNorm, also for half types

TORCH = Package("torch.nn", "torch", "torch")
PYG = Package("PyG", "torch_geometric", "torch-geometric")
LIGER = Package("Liger", "liger_kernel", "liger-kernel", devices=("cuda",))
QUACK = Package("QuACK", "quack", "quack-kernels", devices=("cuda",))


def _layer_by_rank(name: str, ranks: Mapping[int, str]) -> MakeLayer:
    """`nn.BatchNorm2d` of `BatchNorm`, by the number of dimensions.

    What it makes raises `KeyError` for a number of dimensions that torch has no layer for.
    """

    def make(shape: Shape, _: Arguments) -> nn.Module:
        layer: nn.Module = getattr(nn, name + ranks[len(shape)])(shape[1])
        return layer

    return make


def _layer_of(module: str, name: str, *arguments: Any, **options: Any) -> nn.Module:
    """A layer of an optional package, which is imported here."""
    layer: nn.Module = getattr(import_module(module), name)(*arguments, **options)
    return layer


def _liger(file: str, name: str, *arguments: Any, **options: Any) -> nn.Module:
    """A layer of Liger, by its file: the package names some of them for `transformers` alone."""
    return _layer_of(f"liger_kernel.transformers.{file}", name, *arguments, **options)


def _row_length(arguments: Arguments) -> int:
    """The length of normalized rows. Other packages normalize a single dimension."""
    *outer, length = arguments["normalized_shape"]
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


# The default eps of Liger and QuACK is 1e-6; these layers get the eps of torch.
def _liger_group_norm(shape: Shape, arguments: Arguments) -> nn.Module:
    return _liger("group_norm", "LigerGroupNorm", shape[1], arguments["num_groups"], eps=1e-5)


def _liger_layer_norm(_: Shape, arguments: Arguments) -> nn.Module:
    return _liger("layer_norm", "LigerLayerNorm", _row_length(arguments), eps=1e-5)


def _liger_rms_norm(_: Shape, arguments: Arguments) -> nn.Module:
    return _liger("rms_norm", "LigerRMSNorm", _row_length(arguments), eps=EPS)


def _liger_dynamic_tanh(_: Shape, arguments: Arguments) -> nn.Module:
    return _liger("dyt", "LigerDyT", _row_length(arguments))


def _quack_layer_norm(_: Shape, arguments: Arguments) -> nn.Module:
    return _QuackLayerNorm(_row_length(arguments), eps=1e-5)


def _quack_rms_norm(_: Shape, arguments: Arguments) -> nn.Module:
    return _layer_of("quack.rmsnorm", "QuackRMSNorm", _row_length(arguments), eps=EPS)


def _pyg(name: str, *arguments: Any, **options: Any) -> nn.Module:
    return _layer_of("torch_geometric.nn", name, *arguments, **options)


def _pyg_diff_group_norm(shape: Shape, arguments: Arguments) -> nn.Module:
    return _pyg("DiffGroupNorm", shape[1], arguments["groups"])


def _diff_group_norm_parameters(state: State) -> State:
    """The parameters of PyG's layer, whose batch norm has all groups side by side."""
    norm = {f"norm.{name}": state[name].T.flatten() for name in ("weight", "bias")}
    return {"lin.weight": state["lin"], **norm}


def _local_response(shape: Shape, size: int, times: int, **options: float) -> nn.Module:
    """Raises `ValueError` for rows of features, which torch has no such norm for."""
    if len(shape) < 3:
        raise ValueError("takes images and sequences alone")
    alpha = 1e-4 * times  # torch takes a mean: a sum is `times` as large
    return nn.LocalResponseNorm(size, alpha=alpha, **options)


# By norm of the library; a norm of a user finds its peers by its fingerprint.
LAYERS: Mapping[str, tuple[Peer, ...]] = {
    "BatchNorm": (Peer(TORCH, _layer_by_rank("BatchNorm", {2: "1d", **SPATIAL})),),
    "InstanceNorm": (Peer(TORCH, _layer_by_rank("InstanceNorm", SPATIAL)),),
    "GroupNorm": (
        Peer(TORCH, lambda shape, arguments: nn.GroupNorm(arguments["num_groups"], shape[1])),
        Peer(LIGER, _liger_group_norm),
    ),
    "LayerNorm": (
        Peer(TORCH, lambda _, arguments: nn.LayerNorm(arguments["normalized_shape"])),
        Peer(LIGER, _liger_layer_norm),
        Peer(QUACK, _quack_layer_norm, dtype=torch.float32),
    ),
    "RMSNorm": (
        Peer(TORCH, lambda _, arguments: nn.RMSNorm(arguments["normalized_shape"])),
        Peer(LIGER, _liger_rms_norm, overwrites=True),  # writes dx over dy by default
        Peer(QUACK, _quack_rms_norm),
    ),
    "LocalResponseNorm": (
        Peer(TORCH, lambda shape, arguments: _local_response(shape, arguments["size"], 1)),
    ),
    "LocalResponseSum": (
        Peer(
            TORCH,
            lambda shape, arguments: _local_response(
                shape, arguments["size"], arguments["size"], k=2
            ),
        ),
    ),
    "DynamicTanh": (Peer(LIGER, _liger_dynamic_tanh),),
    "GraphNorm": (Peer(PYG, lambda shape, _: _pyg("GraphNorm", shape[1])),),
    "GraphInstanceNorm": (Peer(PYG, lambda shape, _: _pyg("InstanceNorm", shape[1])),),
    "GraphLayerNorm": (Peer(PYG, lambda shape, _: _pyg("LayerNorm", shape[1])),),
    "MeanSubtractionNorm": (Peer(PYG, lambda *_: _pyg("MeanSubtractionNorm")),),
    "PairNorm": (Peer(PYG, lambda *_: _pyg("PairNorm")),),
    "PairNormSI": (Peer(PYG, lambda *_: _pyg("PairNorm", scale_individually=True)),),
    "HeteroLayerNorm": (
        Peer(
            PYG, lambda shape, arguments: _pyg("HeteroLayerNorm", shape[1], arguments["num_types"])
        ),
    ),
    "HeteroBatchNorm": (
        Peer(  # keeps biased variances
            PYG,
            lambda shape, arguments: _pyg("HeteroBatchNorm", shape[1], arguments["num_types"]),
            in_eval=False,
        ),
    ),
    "DiffGroupNorm": (Peer(PYG, _pyg_diff_group_norm, parameters=_diff_group_norm_parameters),),
}
