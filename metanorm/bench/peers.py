"""Layers that compute what a norm of the library computes, from torch and from PyG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]
BY_RANK = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}


def _with_rank(name: str) -> Callable[[Shape, Arguments], nn.Module]:
    """`nn.BatchNorm2d` of `BatchNorm`, by the number of dimensions."""

    def make(shape: Shape, _: Arguments) -> nn.Module:
        layer: nn.Module = getattr(nn, name + BY_RANK[len(shape)])(shape[1])
        return layer

    return make


def _instance_norm(shape: Shape, _: Arguments) -> nn.Module:
    layer = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}[len(shape)]
    return layer(shape[1], affine=True, track_running_stats=False)


def _graph_norm(shape: Shape, _: Arguments) -> nn.Module:
    layer: nn.Module = import_module("torch_geometric.nn").GraphNorm(shape[1])
    return layer


# By the norm of the library that they equal; a user's norm finds them by its fingerprint.
PEERS: Mapping[str, tuple[str, Callable[[Shape, Arguments], nn.Module]]] = {
    "BatchNorm": ("torch.nn", _with_rank("BatchNorm")),
    "InstanceNorm": ("torch.nn", _instance_norm),
    "GroupNorm": (
        "torch.nn",
        lambda shape, given: nn.GroupNorm(given["num_groups"], shape[1]),
    ),
    "LayerNorm": ("torch.nn", lambda _, given: nn.LayerNorm(given["normalized_shape"])),
    "RMSNorm": ("torch.nn", lambda _, given: nn.RMSNorm(given["normalized_shape"])),
    "GraphNorm": ("PyG", _graph_norm),
}


def peer(known: str, shape: Shape, given: Arguments) -> tuple[str, nn.Module] | None:
    """The layer that equals a norm of the library, with where it is from."""
    if known not in PEERS:
        return None
    origin, make = PEERS[known]
    if origin == "PyG" and find_spec("torch_geometric") is None:
        return None
    return origin, make(shape, given)
