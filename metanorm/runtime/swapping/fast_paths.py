"""Code of torch that computes a norm without calling it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator
from types import FunctionType

import torch
from torch import nn

FUNCTIONS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "instance_norm": (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    "group_norm": (nn.GroupNorm,),
    "layer_norm": (nn.LayerNorm,),
    "rms_norm": (nn.RMSNorm,),
}


def disarm(modules: Iterable[nn.Module], new: Collection[nn.Module]) -> None:
    """Have encoders call the norms that were put into them.

    In evaluation `nn.TransformerEncoderLayer` hands the weights of its norms to one fused kernel,
    which computes `nn.LayerNorm` with them whatever the norms are. An activation that it does not
    know makes it take the other way; nothing else reads that attribute.
    """
    disarmed: set[nn.Module] = set()
    modules = list(modules)
    for module in modules:
        if isinstance(module, nn.TransformerEncoderLayer):
            norms = {getattr(module, "norm1", None), getattr(module, "norm2", None)}
            if norms & set(new):
                module.activation_relu_or_gelu = 0
                disarmed.add(module)
    for module in modules:
        if isinstance(module, nn.TransformerEncoder) and disarmed & set(module.layers):
            module.use_nested_tensor = False  # which only the fused kernel takes


def called_inside(module: nn.Module, keys: Collection[type]) -> str:
    """The function of torch that a module calls instead of having a layer that is a key."""
    wanted = {name for name, layers in FUNCTIONS.items() if set(layers) & set(keys)}
    for function in _functions(type(module)):
        names = function.__code__.co_names
        outside = [function.__globals__.get(name) for name in names]
        if any(o is nn.functional or o is torch for o in outside):
            found = wanted & set(names)
        else:
            found = {n for n in wanted if getattr(nn.functional, n) in outside}
        if found:
            return min(found)
    return ""


def _functions(cls: type) -> Iterator[FunctionType]:
    for base in cls.__mro__:
        if base.__module__.startswith("torch.nn."):
            return
        for value in vars(base).values():
            if isinstance(value, FunctionType):
                yield inspect.unwrap(value) if hasattr(value, "__wrapped__") else value
