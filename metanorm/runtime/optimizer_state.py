"""What a norm keeps of each parameter, inside of the optimizer's own state."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

State = dict[str, Tensor]  # buffers of a norm by name, for one parameter

# Who keeps state under a key for a parameter: two norms must not share it.
_OWNERS: weakref.WeakKeyDictionary[
    Optimizer, dict[tuple[int, str], weakref.ref[OptimizerState]]
] = weakref.WeakKeyDictionary()


class OptimizerState:
    """The state that a norm keeps in `optimizer.state[parameter]`, as `Norm.buffer`.

    So `state_dict()`, `deepcopy` and pickles of the optimizer have it, and a norm that is attached
    to a copy goes on with it. Most optimizers begin their own state where there is none at all:
    what a first step keeps waits until that step has ended.
    """

    def __init__(self, owner: str, names: Sequence[str]) -> None:
        self.key_by_name = {name: f"{owner}.{name}" for name in names}
        self.waiting: dict[Tensor, State] = {}
        self.loading: list[State] = []

    def register(self, optimizer: Optimizer) -> list[RemovableHandle]:
        """The hooks that hand the state to the optimizer, and keep its dtype when it is loaded."""
        return [
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_pre_hook(self._before_load),
            optimizer.register_load_state_dict_post_hook(self._after_load),
        ]

    def claim(self, optimizer: Optimizer, parameters: Iterable[Tensor]) -> None:
        """Note whose state it is: of all, or of none.

        Raises `ValueError` where another norm keeps state of a parameter under the same name.
        """
        owners = _OWNERS.setdefault(optimizer, {})
        places = [(id(p), key) for p in parameters for key in self.key_by_name.values()]
        for place in places:
            owner = owners.get(place)
            if owner is not None and owner() not in (None, self):
                raise ValueError(
                    f"another norm keeps `{place[1]}` of a parameter in the optimizer: remove() "
                    "it, or give this one a name, attach(optimizer, name=...)"
                )
        owners.update(dict.fromkeys(places, weakref.ref(self)))

    def find(self, optimizer: Optimizer, parameter: Tensor) -> State | None:
        """The state of a parameter; `None` if there is none yet."""
        self.claim(optimizer, [parameter])
        if parameter in self.waiting:
            return self.waiting[parameter]
        saved = optimizer.state.get(parameter, {})
        if any(key not in saved for key in self.key_by_name.values()):
            return None
        return {name: saved[key] for name, key in self.key_by_name.items()}

    def keep(self, optimizer: Optimizer, parameter: Tensor, state: State) -> None:
        """Keep the state of a parameter, at once if the optimizer has state of its own there."""
        if optimizer.state.get(parameter):
            self.waiting.pop(parameter, None)
            self._store(optimizer, parameter, state)
        else:
            self.waiting[parameter] = state

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Hand what waits to the optimizer, whose step has ended."""
        for parameter, state in self.waiting.items():
            self._store(optimizer, parameter, state)
        self.waiting.clear()

    def forget(self, optimizer: Optimizer) -> None:
        """Take the state out of the optimizer."""
        self.waiting.clear()
        owners = _OWNERS.get(optimizer, {})
        claimed_places = [place for place, owner in owners.items() if owner() is self]
        for place in claimed_places:
            del owners[place]
        claimed = {identity for identity, _ in claimed_places}
        for parameter, saved in optimizer.state.items():
            if id(parameter) in claimed:
                for key in self.key_by_name.values():
                    saved.pop(key, None)

    def _before_load(self, _: Optimizer, state_dict: Mapping[str, Any]) -> None:
        """Set aside what a checkpoint has: torch would round it to the dtype of the parameter."""
        places = [place for group in state_dict["param_groups"] for place in group["params"]]
        saved_states = [state_dict["state"].get(place, {}) for place in places]
        keys = self.key_by_name.values()
        self.loading = [{key: saved[key] for key in keys if key in saved} for saved in saved_states]

    def _after_load(self, optimizer: Optimizer) -> None:
        """Put it back as it was, on the device of the parameter."""
        self.waiting.clear()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter, saved in zip(parameters, self.loading):
            for key, value in saved.items():
                copied = value.detach().clone().to(parameter.device)
                optimizer.state[parameter][key] = copied
        self.loading = []

    def _store(self, optimizer: Optimizer, parameter: Tensor, state: State) -> None:
        for name, key in self.key_by_name.items():
            optimizer.state[parameter][key] = state[name]


def grad_scale(optimizer: Optimizer) -> Tensor | None:
    """What `GradScaler` has multiplied the gradients by that `step()` is about to divide by it.

    Fused optimizers divide in their own kernels; all others find gradients that are divided.
    """
    return getattr(optimizer, "grad_scale", None)


def changes_nothing(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer is about to skip a step, as `GradScaler` has found infinities."""
    infinities = getattr(optimizer, "found_inf", None)
    return isinstance(infinities, Tensor) and bool(torch.any(infinities != 0))
