"""`runtime.swap`: replaces layers of a model by norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from metanorm.runtime.swapping.construction import UnknownArgument, construct_like
from metanorm.runtime.swapping.fast_paths import disable_fast_paths, functional_norm_call
from metanorm.runtime.swapping.handover import hand_over, unmatched_tensors, why_not_replaceable
from metanorm.runtime.swapping.module_tree import (
    module_names,
    modules_in,
    plain_attributes,
    replace_modules,
)
from metanorm.runtime.swapping.report import Replaced, Report, Skipped, SwapError

Replacement = Union[type[nn.Module], Callable[[Any], nn.Module]]
Filter = Callable[[nn.Module, str], bool]


def swap(
    model: nn.Module,
    norms: Mapping[type[nn.Module], Replacement],
    filter_fn: Filter | None = None,
    strict: bool = True,
) -> Report:
    """Replace layers of a model by norms, in place.

    Parameters and buffers stay the same objects, so that an optimizer made before goes on working;
    hooks, training mode, `requires_grad`, device, dtype and what else was set on a layer stay as
    well. A layer that stands in several places is replaced by one norm. In
    `nn.TransformerEncoderLayer` the fused evaluation, which would not call the norm, is turned off.

    Args:
        model: any module; it is changed, unless this raises.
        norms: for each class of layers, what replaces them: a class, which is constructed with the
            arguments of the layer, or a function that is given the layer and returns a norm. Only
            layers of exactly that class are replaced, not those of a class that derives from it.
        filter_fn: called with each such layer and its name; those it returns `False` for stay.
        strict: raise where a layer cannot be replaced. Otherwise it stays, and the report says why.

    Returns:
        What was replaced, and what was skipped and why. Printed, it is one line for each.

    Raises:
        SwapError: if layers cannot be replaced; nothing is changed then.
        TypeError: if `norms` does not map classes of modules to classes or functions.
    """
    for layer, norm in norms.items():
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            raise TypeError(f"the keys of norms are classes of modules, got {layer!r}")
        if not callable(norm) or isinstance(norm, nn.Module):
            raise TypeError(f"norms has a class or a function for {layer.__name__}, got {norm!r}")
    plan = _Plan(model, norms, filter_fn)
    if strict and plan.problems:
        lines = "".join(f"\n  {problem}" for problem in plan.problems)
        raise SwapError(f"nothing was swapped, for these layers cannot be:{lines}")
    return plan.carry_out()


@dataclass
class _Plan:
    """The replacements, which are all constructed before any layer is replaced."""

    model: nn.Module
    norms: Mapping[type[nn.Module], Replacement]
    filter_fn: Filter | None
    replacements: dict[nn.Module, nn.Module] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = module_names(self.model)
        self.modules_with_exposed_methods = {
            module
            for parent in self.names
            for _, value in plain_attributes(parent)
            for module, is_method in modules_in(value)
            if is_method and module is not parent
        }
        for module, names in self.names.items():
            self._decide(module, names[0])
        self._report_unregistered()

    def _decide(self, module: nn.Module, name: str) -> None:
        cls = type_before_parametrizations(module)
        norm = self.norms.get(cls) or self.norms.get(getattr(module, "cls_to_become", None) or cls)
        if norm is None:
            self._explain_unreplaced(module, name)
        elif self.filter_fn is not None and not self.filter_fn(module, name):
            self._skip(module, name, "is left by filter_fn")
        else:
            try:
                self.replacements[module] = self._construct(norm, module)
            except _NotReplaced as reason:
                skipped = self._skip(module, name, str(reason))
                if reason.is_problem:
                    self.problems.append(skipped)

    def _construct(self, norm: Replacement, layer: nn.Module) -> nn.Module:
        """Construct the replacement of a layer. Raises `_NotReplaced`."""
        reason = why_not_replaceable(layer)
        if layer is self.model:
            reason = "cannot be replaced from inside; make the norm yourself"
        if layer in self.modules_with_exposed_methods:
            reason = "has a method that is kept as an attribute elsewhere"
        if reason:
            raise _NotReplaced(reason)
        label = getattr(norm, "__name__", repr(norm))
        try:
            replacement = construct_like(norm, layer) if isinstance(norm, type) else norm(layer)
        except UnknownArgument as unknown:
            raise _NotReplaced(f"{unknown}; give a function that makes it") from None
        except Exception as error:
            raise _NotReplaced(f"is not taken by {label}: {error}") from error
        if replacement is layer:
            raise _NotReplaced(f"is what {label} returned", is_problem=False)
        if not isinstance(replacement, nn.Module):
            raise _NotReplaced(f"was given to {label}, which returned {type(replacement).__name__}")
        self._demand_new(replacement, layer, label)
        if isinstance(norm, type):
            unmatched = unmatched_tensors(layer, replacement)
            unmatched += tuple(name for name, child in layer.named_children() if child is not None)
            if unmatched:
                raise _NotReplaced(
                    f"has {', '.join(unmatched)}, for which {label} has no place; "
                    "give a function that makes the norm if that can be dropped"
                )
        return replacement

    def _demand_new(self, replacement: nn.Module, layer: nn.Module, label: str) -> None:
        """Raise `_NotReplaced` for a norm that is, or contains, another module of the model.

        If it contains the layer, both would have the same hooks and tensors.
        """
        modules = set(replacement.modules())
        if layer in modules:
            raise _NotReplaced(
                f"is part of what {label} returned, under other names; "
                "return a norm of its own, or wrap the layer yourself"
            )
        replaced_layer = {
            module: old for old, new in self.replacements.items() for module in new.modules()
        }
        other_names = [
            self.names[replaced_layer[module]][0] for module in modules if module in replaced_layer
        ]
        other_names += [self.names[m][0] for m in modules - set(layer.modules()) if m in self.names]
        if other_names:
            raise _NotReplaced(
                f"was given to {label}, which returned what stands at {min(other_names)} too; "
                "return a new norm for each layer"
            )

    def _explain_unreplaced(self, module: nn.Module, name: str) -> None:
        """Report a module that users may expect to be replaced."""
        if any(isinstance(norm, type) and isinstance(module, norm) for norm in self.norms.values()):
            self._skip(module, name, "is such a norm already")
            return
        parent = next((key for key in self.norms if isinstance(module, key)), None)
        if parent is not None:
            self._skip(module, name, f"derives from {parent.__name__}; make it a key to swap it")
            return
        scripted = getattr(module, "original_name", "")
        if isinstance(module, torch.jit.ScriptModule) and any(
            key.__name__ == scripted for key in self.norms
        ):
            self._skip(module, name, f"is a {scripted} of TorchScript; swap first, then script it")
            return
        function = functional_norm_call(module, self.norms)
        if function:
            self._skip(module, name, f"calls {function} itself, and no layer")

    def _report_unregistered(self) -> None:
        """Report layers in plain lists and the like, which are not registered in the model."""
        for parent, names in self.names.items():
            for attribute, value in plain_attributes(parent):
                for module, _ in modules_in(value):
                    if module not in self.names and type(module) in self.norms:
                        path = f"{names[0]}.{attribute}" if names[0] else attribute
                        self._skip(module, path, "is no registered module")

    def _skip(self, module: nn.Module, name: str, reason: str) -> Skipped:
        skipped = Skipped(name, type(module).__name__, reason)
        self.skipped.append(skipped)
        return skipped

    def carry_out(self) -> Report:
        replaced = []
        for layer, norm in self.replacements.items():
            dropped = unmatched_tensors(layer, norm)
            added = hand_over(layer, norm)
            names = tuple(self.names[layer])
            old, new = type(layer).__name__, type(norm).__name__
            replaced.append(Replaced(names, old, new, added, dropped))
        replace_modules(self.names, self.replacements)
        disable_fast_paths(self.names, set(self.replacements.values()))
        return Report(tuple(replaced), tuple(self.skipped))


class _NotReplaced(Exception):
    """A layer is not replaced; `is_problem` if that makes a strict call fail."""

    def __init__(self, reason: str, is_problem: bool = True) -> None:
        super().__init__(reason)
        self.is_problem = is_problem
