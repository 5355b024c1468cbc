"""Code of torch that computes a norm without calling its module."""

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


def disable_fast_paths(modules: Iterable[nn.Module], new_norms: Collection[nn.Module]) -> None:
    """Let transformer encoders call their new norms.

    In evaluation, `nn.TransformerEncoderLayer` passes the weights of its norms to a fused kernel,
    which computes `nn.LayerNorm` whatever the norms are. It calls its modules instead if it does
    not know the activation; nothing else reads that attribute.
    """
    changed_layers: set[nn.Module] = set()
    modules = list(modules)
    for module in modules:
        if isinstance(module, nn.TransformerEncoderLayer):
            norms = {getattr(module, "norm1", None), getattr(module, "norm2", None)}
            if norms & set(new_norms):
                module.activation_relu_or_gelu = 0
                changed_layers.add(module)
    for module in modules:
        if isinstance(module, nn.TransformerEncoder) and changed_layers & set(module.layers):
            module.use_nested_tensor = False  # only the fused kernel takes nested tensors


def functional_norm_call(module: nn.Module, keys: Collection[type]) -> str:
    """The function of torch that a module calls in place of a layer of these classes; or empty."""
    wanted = {name for name, layers in FUNCTIONS.items() if set(layers) & set(keys)}
    for function in _functions(type(module)):
        names = function.__code__.co_names
        referenced = [function.__globals__.get(name) for name in names]
        if any(object_ is nn.functional or object_ is torch for object_ in referenced):
            called = wanted & set(names)
        else:
            called = {n for n in wanted if getattr(nn.functional, n) in referenced}
        if called:
            return min(called)
    return ""


def _functions(cls: type) -> Iterator[FunctionType]:
    for base in cls.__mro__:
        if base.__module__.startswith("torch.nn."):
            return
        for value in vars(base).values():
            if isinstance(value, FunctionType):
                yield inspect.unwrap(value) if hasattr(value, "__wrapped__") else value
