"""Norms for steps: what becomes of weights after an optimizer has changed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from metanorm.runtime.attachable import AttachableNorm
from metanorm.runtime.hooks import Attached
from metanorm.runtime.optimizer_state import OptimizerState, State, changes_nothing
from metanorm.runtime.parameter_filter import ParameterFilter


class StepNorm(AttachableNorm):
    """The base class of generated norms for steps: modules that map a weight to another."""

    takes_before: ClassVar[bool] = False  # whether `forward` takes the weight before the step, too

    def attach(
        self,
        to: Optimizer,
        *,
        where: Callable[[Tensor], bool] | None = None,
        skip: str | Sequence[str] = (),
        name: str | None = None,
    ) -> Attached:
        """Replace each parameter of an optimizer by the norm of it: at once, and after each step.

        What the norm keeps begins now, with the weights as they are; that they are replaced at once
        changes nothing of it. Where the optimizer has it already, as from a checkpoint, it goes on,
        and nothing happens at once. A parameter without a gradient is not stepped with and stays as
        it is, and so does one that needs none.

        `where`, `skip`, `name` and `skipped` are those of `GradientNorm.attach`. Returns what takes
        the norm off again, with all that it keeps. Raises `TypeError` for anything but an
        optimizer, and `ValueError` for names to skip where the optimizer knows none, and where
        another norm keeps its state under the same name.
        """
        if not isinstance(to, Optimizer):
            raise TypeError(f"expected an optimizer, got {type(to).__name__}")
        accepts = self._filter(where, skip)
        skipped = accepts.skipped(to)
        state = self._optimizer_state(name)
        hooks = _StepHooks(self, accepts, state)
        hooks.begin(to)
        handles = [to.register_step_post_hook(hooks.after_step)]
        if self.takes_before:
            handles.append(to.register_step_pre_hook(hooks.before_step))
        if not self.state_names:
            return Attached(handles, skipped)
        handles += state.register(to)  # after the norm has been called: hooks run in order
        return Attached(handles, skipped, partial(state.forget, to))

    def _inputs(self, weight: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        weight = weight.detach()
        return (weight, before) if self.takes_before else (weight,)


@dataclass(frozen=True)
class _StepHooks:
    """Calls a norm for the parameters of an optimizer that has stepped."""

    norm: StepNorm
    accepts: ParameterFilter
    state: OptimizerState
    weights_before: dict[Tensor, Tensor] = field(default_factory=dict)

    def begin(self, optimizer: Optimizer) -> None:
        """Begin the state of each parameter, and bring it to where the norm has it."""
        self.state.claim(optimizer, self._taken(optimizer))
        with torch.no_grad():
            for parameter in self._taken(optimizer):
                inputs = self.norm._inputs(parameter, parameter.detach().clone())
                unused: State = {}  # what the norm keeps of this call
                if self.norm.state_names:
                    if self.state.find(optimizer, parameter) is not None:
                        continue  # it goes on where it was
                    state = self.norm._first_state(inputs)
                    self.state.keep(optimizer, parameter, state)
                    unused = {name: tensor.clone() for name, tensor in state.items()}
                parameter.copy_(self.norm._with_state(unused, inputs)[0])

    def before_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Copy the weights, which the norm takes."""
        self.weights_before.clear()
        for parameter in self._taken(optimizer):
            self.weights_before[parameter] = parameter.detach().clone()

    def after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Replace the weights that the step has changed."""
        stepped = [] if changes_nothing(optimizer) else self._taken(optimizer)
        with torch.no_grad():
            for parameter in stepped:
                if parameter.grad is not None:
                    before = self.weights_before.get(parameter, parameter)
                    inputs = self.norm._inputs(parameter, before)
                    result = self.norm._result_for(optimizer, parameter, inputs, self.state)
                    parameter.copy_(result)
        self.weights_before.clear()

    def _taken(self, optimizer: Optimizer) -> list[Tensor]:
        accepted = self.accepts.of_optimizer(optimizer)
        return [p for p in accepted if p.requires_grad and self.norm._can_take(p)]
