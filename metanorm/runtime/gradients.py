"""Norms for gradients: how they are attached, and which gradients they skip."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from metanorm.runtime.attachable import AttachableNorm
from metanorm.runtime.hooks import Attached
from metanorm.runtime.optimizer_state import OptimizerState, changes_nothing, grad_scale
from metanorm.runtime.parameter_filter import ParameterFilter

StepArguments = tuple[tuple[Any, ...], dict[str, Any]]


class GradientNorm(AttachableNorm):
    """The base class of generated norms for gradients: modules that map a gradient to another."""

    takes_weight: ClassVar[bool] = False  # whether `forward` takes the parameter, too

    def attach(
        self,
        to: Tensor | nn.Module | Optimizer,
        *,
        where: Callable[[Tensor], bool] | None = None,
        skip: str | Sequence[str] = (),
        name: str | None = None,
    ) -> Attached:
        """Normalize the gradients of a parameter, of all parameters of a model, or of those that
        an optimizer steps with.

        A model and a parameter have each gradient normalized as it arrives, before it is added to
        `grad`; an optimizer has `grad` normalized once, at the beginning of `step()`, or each time
        that the closure has run which `step(closure)` calls. That differs where several backward
        passes add up, unless the norm is linear.

        Left alone are parameters that do not have the axes of the norm, such as biases where a pool
        has no axis in them; those for which `where` is false; those whose names match one of the
        patterns in `skip`, such as `"bias"` or `"*norm*"`, as a whole or by their last part; and
        sparse and complex gradients. `skipped` of what is returned lists them by name, or by their
        place in the optimizer where they have none.

        A norm that keeps buffers keeps them for each parameter, in the optimizer's state, as
        `Norm.buffer` or under another `name` in the place of the norm's. It can be attached to
        optimizers alone.

        Returns what takes the norm off again, with all that it keeps. Raises `TypeError` for
        anything else, `ValueError` for names to skip where parameters have none, and where another
        norm keeps its state under the same name, and `RuntimeError` for a tensor that needs no
        gradient.
        """
        accepts = self._filter(where, skip)
        if accepts.names and isinstance(to, Tensor):
            raise ValueError("a parameter by itself has no name to skip")
        if isinstance(to, Optimizer):
            return self._attach_to_optimizer(to, accepts, self._optimizer_state(name))
        if self.state_names and isinstance(to, (nn.Module, Tensor)):
            raise TypeError(
                f"{type(self).__name__} keeps {', '.join(self.state_names)}, which change once in "
                "each step: attach it to the optimizer, whose state has room for them"
            )
        if isinstance(to, nn.Module):
            learned = [(n, p) for n, p in to.named_parameters() if p.requires_grad]
            skipped = accepts.skipped(learned)
            return Attached([self._register_hook(p) for n, p in learned if accepts(n, p)], skipped)
        if isinstance(to, Tensor):
            fits = accepts("", to)
            return Attached([self._register_hook(to)] if fits else [], () if fits else ("",))
        raise TypeError(f"expected a parameter, a model or an optimizer, got {type(to).__name__}")

    def _attach_to_optimizer(
        self, optimizer: Optimizer, accepts: ParameterFilter, state: OptimizerState
    ) -> Attached:
        skipped = accepts.skipped(optimizer)
        state.claim(optimizer, accepts.of_optimizer(optimizer))
        hooks = _StepHooks(self, accepts, state)
        handles = [optimizer.register_step_pre_hook(hooks.before_step)]
        if not self.state_names:
            return Attached(handles, skipped)
        handles += state.register(optimizer)
        return Attached(handles, skipped, partial(state.forget, optimizer))

    def _register_hook(self, tensor: Tensor) -> RemovableHandle:
        # A hook that held its tensor would keep it alive.
        hook = partial(self._hook, reference=weakref.ref(tensor))
        handle: RemovableHandle = tensor.register_hook(hook)  # type: ignore[no-untyped-call]
        return handle

    def _inputs(self, grad: Tensor, parameter: Tensor) -> tuple[Tensor, ...]:
        return (grad, parameter.detach()) if self.takes_weight else (grad,)

    def _hook(self, grad: Tensor, reference: weakref.ref[Tensor]) -> Tensor | None:
        parameter = reference()
        if parameter is None or not self._can_take(grad):
            return None
        result: Tensor = self(*self._inputs(grad, parameter))
        return result


@dataclass(frozen=True)
class _StepHooks:
    """Normalizes the gradients of an optimizer when it steps."""

    norm: GradientNorm
    accepts: ParameterFilter
    state: OptimizerState

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StepArguments | None:
        """Normalize all gradients now, or those that the closure of the step computes."""
        optimizer_argument, *rest = args
        closure = rest[0] if rest else kwargs.get("closure")
        if closure is None:
            self._normalize(optimizer)
            return None

        def closure_with_norm() -> Any:
            loss = closure()
            self._normalize(optimizer)
            return loss

        return (optimizer_argument,), {**kwargs, "closure": closure_with_norm}

    def _normalize(self, optimizer: Optimizer) -> None:
        if changes_nothing(optimizer):
            return
        with torch.no_grad():
            for parameter in self.accepts.of_optimizer(optimizer):
                grad = parameter.grad
                if grad is not None and self.norm._can_take(grad):
                    grad.copy_(self._normalized(grad, parameter, optimizer))

    def _normalized(self, grad: Tensor, parameter: Tensor, optimizer: Optimizer) -> Tensor:
        """The gradient of a parameter, normalized, and as large as the optimizer expects it."""
        scale = grad_scale(optimizer)
        inputs = self.norm._inputs(grad if scale is None else grad / scale, parameter)
        result = self.norm._result_for(optimizer, parameter, inputs, self.state)
        return result if scale is None else result * scale
