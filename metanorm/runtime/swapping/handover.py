"""Moves tensors, hooks, modes and attributes from a layer to the norm that replaces it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith(("_hooks", "_hooks_with_kwargs")))
MORE_HOOKS = ("_forward_hooks_always_called",)


def why_not_replaceable(layer: nn.Module) -> str:
    """Why a layer cannot be replaced; empty if it can."""
    tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    if any(is_lazy(tensor) for tensor in tensors):
        return "has no shape yet; call the model once before"
    if parametrize.is_parametrized(layer):
        return "is parametrized; swap first, then parametrize"
    if "forward" in vars(layer):
        return "has a `forward` of its own, put on it by a library; swap first"
    if getattr(layer, "_compiled_call_impl", None) is not None:
        return "is compiled; swap first, then compile"
    if any(getattr(hook, "__self__", None) is layer for hook in _hooks(layer)):
        return "has its own method as a hook"
    return ""


def own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module itself, by name."""
    tensors = {**layer._parameters, **layer._buffers}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def unmatched_tensors(layer: nn.Module, norm: nn.Module) -> tuple[str, ...]:
    """The tensors of a layer for which a norm has none of the same name, shape and kind."""
    norm_tensors = own_tensors(norm)
    return tuple(
        name
        for name, tensor in own_tensors(layer).items()
        if name not in norm_tensors
        or norm_tensors[name].shape != tensor.shape
        or (name in norm._parameters) != (name in layer._parameters)
    )


def hand_over(layer: nn.Module, norm: nn.Module) -> tuple[str, ...]:
    """Give a norm the state of a layer; returns the names of tensors that only the norm has.

    Tensors and dictionaries of hooks stay the same objects, so that optimizers and hook handles
    that refer to them keep working.
    """
    old_tensors, norm_tensors = own_tensors(layer), own_tensors(norm)
    kept_names = set(old_tensors) - set(unmatched_tensors(layer, norm))
    tensor = next((t for t in old_tensors.values() if t.is_floating_point()), None)
    if tensor is not None:
        norm.to(device=tensor.device, dtype=tensor.dtype)
    for name in kept_names:
        registry = norm._parameters if name in norm._parameters else norm._buffers
        registry[name] = old_tensors[name]  # type: ignore[assignment]
    for name in (*HOOKS, *MORE_HOOKS):
        hooks = getattr(layer, name, None)
        if hooks is not None:
            hooks.update(getattr(norm, name, {}))
            setattr(norm, name, hooks)
    if layer._is_full_backward_hook is not None:
        norm._is_full_backward_hook = layer._is_full_backward_hook
    # New buffers are persistent as in the norm, those of the layer as in the layer.
    norm._non_persistent_buffers_set -= kept_names
    norm._non_persistent_buffers_set |= kept_names & layer._non_persistent_buffers_set
    for hook in norm._load_state_dict_pre_hooks.values():
        if getattr(hook, "with_module", False):
            vars(hook)["module"] = weakref.ref(norm)
    for name, value in vars(layer).items():
        if name not in vars(norm) and not hasattr(type(norm), name):
            vars(norm)[name] = value
    norm.train(layer.training)
    return tuple(name for name in norm_tensors if name not in kept_names)


def _hooks(layer: nn.Module) -> Iterator[Any]:
    for name in HOOKS:
        for hook in getattr(layer, name).values():
            yield getattr(hook, "hook", hook)
