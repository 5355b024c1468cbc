"""Layers that compute what a norm of the library computes, from torch and from PyG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]
SPATIAL = {3: "1d", 4: "2d", 5: "3d"}


def _with_rank(
    name: str, ranks: Mapping[int, str], **options: bool
) -> Callable[[Shape, Arguments], nn.Module]:
    """`nn.BatchNorm2d` of `BatchNorm`, by the number of dimensions.

    What it makes raises `KeyError` for a number of dimensions that torch has no layer for.
    """

    def make(shape: Shape, _: Arguments) -> nn.Module:
        layer: nn.Module = getattr(nn, name + ranks[len(shape)])(shape[1], **options)
        return layer

    return make


def _graph_norm(shape: Shape, _: Arguments) -> nn.Module:
    layer: nn.Module = import_module("torch_geometric.nn").GraphNorm(shape[1])
    return layer


# By the norm of the library that they equal; a user's norm finds them by its fingerprint.
PEERS: Mapping[str, tuple[str, Callable[[Shape, Arguments], nn.Module]]] = {
    "BatchNorm": ("torch.nn", _with_rank("BatchNorm", {2: "1d", **SPATIAL})),
    "InstanceNorm": ("torch.nn", _with_rank("InstanceNorm", SPATIAL, affine=True)),
    "GroupNorm": (
        "torch.nn",
        lambda shape, given: nn.GroupNorm(given["num_groups"], shape[1]),
    ),
    "LayerNorm": ("torch.nn", lambda _, given: nn.LayerNorm(given["normalized_shape"])),
    "RMSNorm": ("torch.nn", lambda _, given: nn.RMSNorm(given["normalized_shape"])),
    "GraphNorm": ("PyG", _graph_norm),
}


def peer(known: str) -> tuple[str, Callable[[Shape, Arguments], nn.Module]] | None:
    """Where the layer is from that equals a norm of the library, and what makes it."""
    found = PEERS.get(known)
    if found is not None and found[0] == "PyG" and find_spec("torch_geometric") is None:
        return None
    return found
