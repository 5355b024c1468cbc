"""Norms for gradients: how they are attached, and which gradients they skip."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from metanorm.runtime.hooks import Attached


class GradientNorm(nn.Module):
    """The base class of generated norms for gradients: modules that map a gradient to another."""

    fewest_dims: ClassVar[int]  # of the gradients that `attach` normalizes
    most_dims: ClassVar[int | None] = None
    takes_weight: ClassVar[bool] = False  # whether `forward` takes the parameter, too

    def attach(
        self,
        to: Tensor | nn.Module | Optimizer,
        *,
        where: Callable[[Tensor], bool] | None = None,
        skip: str | Sequence[str] = (),
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

        Returns what takes the norm off again. Raises `TypeError` for anything else, `ValueError`
        for names to skip where parameters have none, and `RuntimeError` for a tensor that needs no
        gradient.
        """
        names = (skip,) if isinstance(skip, str) else tuple(skip)
        if names and isinstance(to, Tensor):
            raise ValueError("a parameter by itself has no name to skip")
        accepts = _ParameterFilter(self._fits, where, names)
        if isinstance(to, Optimizer):
            before = partial(self._before_step, accepts=accepts)
            parameters = [p for group in to.param_groups for p in _named_parameters(group, names)]
            skipped = accepts.skipped(parameters)
            return Attached([to.register_step_pre_hook(before)], skipped)
        if isinstance(to, nn.Module):
            learned = [(n, p) for n, p in to.named_parameters() if p.requires_grad]
            skipped = accepts.skipped(learned)
            return Attached([self._register_hook(p) for n, p in learned if accepts(n, p)], skipped)
        if isinstance(to, Tensor):
            fits = accepts("", to)
            return Attached([self._register_hook(to)] if fits else [], () if fits else ("",))
        raise TypeError(f"expected a parameter, a model or an optimizer, got {type(to).__name__}")

    def _register_hook(self, tensor: Tensor) -> RemovableHandle:
        # A hook that held its tensor would keep it alive.
        hook = partial(self._hook, reference=weakref.ref(tensor))
        handle: RemovableHandle = tensor.register_hook(hook)  # type: ignore[no-untyped-call]
        return handle

    def _fits(self, parameter: Tensor) -> bool:
        """Whether a parameter has the axes of the norm."""
        dims, max_dims = parameter.dim(), self.most_dims
        return dims >= self.fewest_dims and (max_dims is None or dims <= max_dims)

    def _can_normalize(self, grad: Tensor) -> bool:
        dense = grad.layout == torch.strided and grad.is_floating_point()
        return dense and self._fits(grad)

    def _normalized_gradient(self, grad: Tensor, parameter: Tensor) -> Tensor:
        """The gradient of a parameter, normalized."""
        inputs = (grad, parameter.detach()) if self.takes_weight else (grad,)
        return self(*inputs)  # type: ignore[no-any-return]

    def _hook(self, grad: Tensor, reference: weakref.ref[Tensor]) -> Tensor | None:
        parameter = reference()
        can_normalize = self._can_normalize(grad) and parameter is not None
        return (
            self._normalized_gradient(grad, parameter)
            if can_normalize and parameter is not None
            else None
        )

    def _before_step(
        self,
        optimizer: Optimizer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        accepts: _ParameterFilter,
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        optimizer_argument, *rest = args
        closure = rest[0] if rest else kwargs.get("closure")
        if closure is None:
            self._normalize_gradients(optimizer, accepts)
            return None

        def closure_with_norm() -> Any:
            loss = closure()
            self._normalize_gradients(optimizer, accepts)
            return loss

        return (optimizer_argument,), {**kwargs, "closure": closure_with_norm}

    def _normalize_gradients(self, optimizer: Optimizer, accepts: _ParameterFilter) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for name, parameter in _named_parameters(group, accepts.names):
                    grad = parameter.grad
                    if grad is not None and accepts(name, parameter) and self._can_normalize(grad):
                        grad.copy_(self._normalized_gradient(grad, parameter))


@dataclass(frozen=True)
class _ParameterFilter:
    """The parameters of a norm: those that fit, that `where` accepts, and that are not skipped.

    `names` has the patterns of names to skip.
    """

    fits: Callable[[Tensor], bool]
    where: Callable[[Tensor], bool] | None
    names: tuple[str, ...]

    def __call__(self, name: str, parameter: Tensor) -> bool:
        last = name.rpartition(".")[2]
        named = any(fnmatchcase(name, n) or fnmatchcase(last, n) for n in self.names)
        allowed = self.where is None or bool(self.where(parameter))
        return self.fits(parameter) and allowed and not named

    def skipped(self, parameters: Sequence[tuple[str, Tensor]]) -> tuple[str, ...]:
        """The names of the parameters that it does not accept, or their positions."""
        skipped = [(position, n) for position, (n, p) in enumerate(parameters) if not self(n, p)]
        return tuple(name or str(position) for position, name in skipped)


def _named_parameters(
    group: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a group of an optimizer, with their names if it knows them."""
    known_names = group.get("param_names")
    if names and known_names is None:
        raise ValueError(
            "the optimizer does not know the names of its parameters: make it with "
            "model.named_parameters(), or choose them with `where`"
        )
    yield from zip(known_names or [""] * len(group["params"]), group["params"])
