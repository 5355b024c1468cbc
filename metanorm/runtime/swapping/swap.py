"""`runtime.swap`: the layers of a model replaced by norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from metanorm.runtime.swapping.construction import Unknown, made_like
from metanorm.runtime.swapping.fast_paths import called_inside, disarm
from metanorm.runtime.swapping.handover import hand_over, misfits, obstacle
from metanorm.runtime.swapping.module_tree import attributes, held, names_of, put
from metanorm.runtime.swapping.report import Replaced, Report, Skipped, SwapError

Norm = Union[type[nn.Module], Callable[[Any], nn.Module]]
Filter = Callable[[nn.Module, str], bool]


def swap(
    model: nn.Module,
    norms: Mapping[type[nn.Module], Norm],
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
    """What is to be replaced by what, before anything is."""

    model: nn.Module
    norms: Mapping[type[nn.Module], Norm]
    filter_fn: Filter | None
    new: dict[nn.Module, nn.Module] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = names_of(self.model)
        self.methods = {
            module
            for parent in self.names
            for _, value in attributes(parent)
            for module, is_method in held(value)
            if is_method and module is not parent
        }
        for module, names in self.names.items():
            self._decide(module, names[0])
        self._decide_unregistered()

    def _decide(self, module: nn.Module, name: str) -> None:
        cls = type_before_parametrizations(module)
        norm = self.norms.get(cls) or self.norms.get(getattr(module, "cls_to_become", None) or cls)
        if norm is None:
            self._say_why_not(module, name)
        elif self.filter_fn is not None and not self.filter_fn(module, name):
            self._skip(module, name, "is left by filter_fn")
        else:
            try:
                self.new[module] = self._made(norm, module)
            except _Stays as reason:
                skipped = self._skip(module, name, str(reason))
                if reason.is_problem:
                    self.problems.append(skipped)

    def _made(self, norm: Norm, layer: nn.Module) -> nn.Module:
        """What a layer is replaced by. Raises `_Stays`."""
        reason = obstacle(layer)
        if layer is self.model:
            reason = "cannot be replaced from inside; make the norm yourself"
        if layer in self.methods:
            reason = "has a method that is kept as an attribute elsewhere"
        if reason:
            raise _Stays(reason)
        label = getattr(norm, "__name__", repr(norm))
        try:
            made = made_like(norm, layer) if isinstance(norm, type) else norm(layer)
        except Unknown as unknown:
            raise _Stays(f"{unknown}; give a function that makes it") from None
        except Exception as error:
            raise _Stays(f"is not taken by {label}: {error}") from error
        if made is layer:
            raise _Stays(f"is what {label} returned", is_problem=False)
        if not isinstance(made, nn.Module):
            raise _Stays(f"was given to {label}, which returned {type(made).__name__}")
        self._demand_new(made, layer, label)
        if isinstance(norm, type):
            lost = misfits(layer, made)
            lost += tuple(name for name, child in layer.named_children() if child is not None)
            if lost:
                raise _Stays(
                    f"has {', '.join(lost)}, for which {label} has no place; "
                    "give a function that makes the norm if that can be dropped"
                )
        return made

    def _demand_new(self, made: nn.Module, layer: nn.Module, label: str) -> None:
        """Refuse a norm that is, or has in it, what stands somewhere else in the model too.

        The layer itself would keep its hooks and tensors, and the norm would have them as well.
        """
        inside = set(made.modules())
        if layer in inside:
            raise _Stays(
                f"is part of what {label} returned, under other names; "
                "return a norm of its own, or wrap the layer yourself"
            )
        before = {module: old for old, new in self.new.items() for module in new.modules()}
        places = [self.names[before[module]][0] for module in inside if module in before]
        places += [self.names[m][0] for m in inside - set(layer.modules()) if m in self.names]
        if places:
            raise _Stays(
                f"was given to {label}, which returned what stands at {min(places)} too; "
                "return a new norm for each layer"
            )

    def _say_why_not(self, module: nn.Module, name: str) -> None:
        """Name what may be expected to be replaced, and is not."""
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
        function = called_inside(module, self.norms)
        if function:
            self._skip(module, name, f"calls {function} itself, and no layer")

    def _decide_unregistered(self) -> None:
        """Name layers that only lists and the like hold, which are no part of the model."""
        for parent, names in self.names.items():
            for attribute, value in attributes(parent):
                for module, _ in held(value):
                    if module not in self.names and type(module) in self.norms:
                        path = f"{names[0]}.{attribute}" if names[0] else attribute
                        self._skip(module, path, "is no registered module")

    def _skip(self, module: nn.Module, name: str, reason: str) -> Skipped:
        skipped = Skipped(name, type(module).__name__, reason)
        self.skipped.append(skipped)
        return skipped

    def carry_out(self) -> Report:
        replaced = []
        for layer, norm in self.new.items():
            dropped = misfits(layer, norm)
            added = hand_over(layer, norm)
            names = tuple(self.names[layer])
            old, new = type(layer).__name__, type(norm).__name__
            replaced.append(Replaced(names, old, new, added, dropped))
        put(self.names, self.new)
        disarm(self.names, set(self.new.values()))
        return Report(tuple(replaced), tuple(self.skipped))


class _Stays(Exception):
    """A layer is not replaced; a problem where its user expects that it is."""

    def __init__(self, reason: str, is_problem: bool = True) -> None:
        super().__init__(reason)
        self.is_problem = is_problem
