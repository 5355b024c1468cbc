"""Norms for gradients: where they are put, and which gradients they leave alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from metanorm.runtime.hooks import Attached


class GradientNorm(nn.Module):
    """What generated norms for gradients are: a module from gradient to gradient, with `attach`."""

    fewest_dims: ClassVar[int]  # of a gradient that `attach` has normalized

    def attach(self, to: Tensor | nn.Module | Optimizer) -> Attached:
        """Normalize the gradients of a parameter, of all parameters of a model, or of those that
        an optimizer steps with.

        A model and a parameter have each gradient normalized as it arrives, before it is added to
        `grad`; an optimizer has `grad` normalized once, at the beginning of `step()`, or each time
        that the closure has run which `step(closure)` calls. That differs where several backward
        passes add up, unless the norm is linear. Left alone are gradients
        with fewer than `fewest_dims` dimensions, in which some pool has no axis, such as those of
        biases; and sparse and complex ones.

        Returns what takes the norm off again. Raises `TypeError` for anything else, and
        `RuntimeError` for a tensor that needs no gradient.
        """
        if isinstance(to, Optimizer):
            return Attached([to.register_step_pre_hook(self._before_step)])
        if isinstance(to, nn.Module):
            learned = (p for p in to.parameters() if p.requires_grad)
            return Attached([self._on(parameter) for parameter in learned])
        if isinstance(to, Tensor):
            return Attached([self._on(to)])
        raise TypeError(f"expected a parameter, a model or an optimizer, got {type(to).__name__}")

    def _on(self, tensor: Tensor) -> RemovableHandle:
        handle: RemovableHandle = tensor.register_hook(self._arrived)  # type: ignore[no-untyped-call]
        return handle

    def _takes(self, grad: Tensor) -> bool:
        dense = grad.layout == torch.strided and grad.is_floating_point()
        return dense and grad.dim() >= self.fewest_dims

    def _arrived(self, grad: Tensor) -> Tensor | None:
        return self(grad) if self._takes(grad) else None

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        itself, *given = args
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            self._normalize(optimizer)
            return None

        def normalized() -> Any:
            loss = closure()
            self._normalize(optimizer)
            return loss

        return (itself,), {**kwargs, "closure": normalized}

    def _normalize(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    grad = parameter.grad
                    if grad is not None and self._takes(grad):
                        grad.copy_(self(grad))
