"""The modules of a model: registered ones, and those in plain attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

from torch import nn

MAX_DEPTH = 4  # of nested lists
# The attributes of every `nn.Module`.
MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def module_names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of each module; a module comes before its children."""
    names: dict[nn.Module, list[str]] = {model: [""]}
    pending = [(model, "")]
    while pending:
        parent, prefix = pending.pop()
        children = []
        for name, child in parent._modules.items():
            if child is None:
                continue
            path = f"{prefix}.{name}" if prefix else name
            if child in names:
                names[child].append(path)
            else:
                names[child] = [path]
                children.append((child, path))
        pending += reversed(children)
    return names


def plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that are no parameters, buffers or registered modules."""
    return ((name, value) for name, value in vars(module).items() if name not in MODULE_ATTRIBUTES)


def modules_in(value: Any, depth: int = MAX_DEPTH) -> Iterator[tuple[nn.Module, bool]]:
    """The modules in a plain attribute, and for each whether it has only a method of the module."""
    if isinstance(value, nn.Module):
        yield value, False
    elif isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        yield value.__self__, True
    elif isinstance(value, (list, tuple, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from modules_in(item, depth - 1)


def replace_modules(
    modules: Mapping[nn.Module, object], replacements: Mapping[nn.Module, nn.Module]
) -> None:
    """Replace modules by others, in plain attributes too."""
    for parent in modules:
        for name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
        for name, value in list(plain_attributes(parent)):
            replaced = _with_replacements(value, replacements, MAX_DEPTH)
            if replaced is not value:
                vars(parent)[name] = replaced


def _with_replacements(value: Any, replacements: Mapping[nn.Module, nn.Module], depth: int) -> Any:
    """The attribute with modules replaced; lists and dictionaries are changed in place."""
    if isinstance(value, nn.Module):
        return replacements.get(value, value)
    if not depth or not any(module in replacements for module, _ in modules_in(value, depth)):
        return value
    if isinstance(value, tuple):
        items = [_with_replacements(item, replacements, depth - 1) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, (list, dict)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            value[key] = _with_replacements(value[key], replacements, depth - 1)
    return value
