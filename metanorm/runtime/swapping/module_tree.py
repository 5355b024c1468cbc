"""Where the layers of a model are: as modules, and in the plain attributes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

from torch import nn

DEPTH = 4  # of lists in lists
# What `nn.Module` keeps for itself.
OWN = frozenset(vars(nn.Module()))


def names_of(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module with all its names, each once, a module before what is in it."""
    names: dict[nn.Module, list[str]] = {model: [""]}
    waiting = [(model, "")]
    while waiting:
        parent, prefix = waiting.pop()
        inner = []
        for name, child in parent._modules.items():
            if child is None:
                continue
            path = f"{prefix}.{name}" if prefix else name
            if child in names:
                names[child].append(path)
            else:
                names[child] = [path]
                inner.append((child, path))
        waiting += reversed(inner)
    return names


def attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module keeps that torch does not keep for it."""
    return ((name, value) for name, value in vars(module).items() if name not in OWN)


def held(value: Any, depth: int = DEPTH) -> Iterator[tuple[nn.Module, bool]]:
    """The modules in a plain attribute, and whether it is only a method of them that is kept."""
    if isinstance(value, nn.Module):
        yield value, False
    elif isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        yield value.__self__, True
    elif isinstance(value, (list, tuple, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from held(item, depth - 1)


def put(model_modules: Mapping[nn.Module, object], new: Mapping[nn.Module, nn.Module]) -> None:
    """Put the new layers where the old ones were, in attributes too."""
    for parent in model_modules:
        for name, child in parent._modules.items():
            if child is not None and child in new:
                parent._modules[name] = new[child]
        for name, value in list(attributes(parent)):
            exchanged = _exchanged(value, new, DEPTH)
            if exchanged is not value:
                vars(parent)[name] = exchanged


def _exchanged(value: Any, new: Mapping[nn.Module, nn.Module], depth: int) -> Any:
    """The attribute with new layers in it; lists and dictionaries stay the same objects."""
    if isinstance(value, nn.Module):
        return new.get(value, value)
    if not depth or not any(module in new for module, _ in held(value, depth)):
        return value
    if isinstance(value, tuple):
        items = [_exchanged(item, new, depth - 1) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, (list, dict)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            value[key] = _exchanged(value[key], new, depth - 1)
    return value
