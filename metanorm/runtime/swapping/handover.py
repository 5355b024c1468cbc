"""What a new layer takes over from the one whose place it takes: tensors, hooks, modes, marks."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith(("_hooks", "_hooks_with_kwargs")))
MORE_HOOKS = ("_forward_hooks_always_called",)


def obstacle(layer: nn.Module) -> str:
    """Why no other module can take the place of a layer, empty where one can."""
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


def tensors_of(layer: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the layer itself, by name."""
    own = {**layer._parameters, **layer._buffers}
    return {name: tensor for name, tensor in own.items() if tensor is not None}


def misfits(layer: nn.Module, norm: nn.Module) -> tuple[str, ...]:
    """The tensors of a layer that have no place in a norm."""
    places = tensors_of(norm)
    return tuple(
        name
        for name, tensor in tensors_of(layer).items()
        if name not in places
        or places[name].shape != tensor.shape
        or (name in norm._parameters) != (name in layer._parameters)
    )


def hand_over(layer: nn.Module, norm: nn.Module) -> tuple[str, ...]:
    """Make a norm the successor of a layer; returns the names of what is new in it.

    Tensors and dictionaries of hooks are the same objects as before, so that optimizers that hold
    the ones, and handles that remove from the others, go on working.
    """
    old, own = tensors_of(layer), tensors_of(norm)
    kept = set(old) - set(misfits(layer, norm))
    first = next((t for t in old.values() if t.is_floating_point()), None)
    if first is not None:
        norm.to(device=first.device, dtype=first.dtype)
    for name in kept:
        where = norm._parameters if name in norm._parameters else norm._buffers
        where[name] = old[name]  # type: ignore[assignment]
    for name in (*HOOKS, *MORE_HOOKS):
        before = getattr(layer, name, None)
        if before is not None:
            before.update(getattr(norm, name, {}))
            setattr(norm, name, before)
    if layer._is_full_backward_hook is not None:
        norm._is_full_backward_hook = layer._is_full_backward_hook
    # What is new in the norm is saved or not as the norm says, what it takes over as the layer did.
    norm._non_persistent_buffers_set -= kept
    norm._non_persistent_buffers_set |= kept & layer._non_persistent_buffers_set
    for hook in norm._load_state_dict_pre_hooks.values():
        if getattr(hook, "with_module", False):
            vars(hook)["module"] = weakref.ref(norm)
    for name, value in vars(layer).items():
        if name not in vars(norm) and not hasattr(type(norm), name):
            vars(norm)[name] = value
    norm.train(layer.training)
    return tuple(name for name in own if name not in kept)


def _hooks(layer: nn.Module) -> Iterator[Any]:
    for name in HOOKS:
        for hook in getattr(layer, name).values():
            yield getattr(hook, "hook", hook)
