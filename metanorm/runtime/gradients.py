"""Norms for gradients: where they are put, and which gradients they leave alone."""

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
    """What generated norms for gradients are: a module from gradient to gradient, with `attach`."""

    fewest_dims: ClassVar[int]  # of a gradient that `attach` has normalized
    most_dims: ClassVar[int | None] = None
    takes_weight: ClassVar[bool] = False  # whether it is given the parameter, too

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
        chosen = _Chosen(self._fits, where, names)
        if isinstance(to, Optimizer):
            before = partial(self._before_step, chosen=chosen)
            parameters = [p for group in to.param_groups for p in _named(group, names)]
            skipped = chosen.skipped(parameters)
            return Attached([to.register_step_pre_hook(before)], skipped)
        if isinstance(to, nn.Module):
            learned = [(n, p) for n, p in to.named_parameters() if p.requires_grad]
            skipped = chosen.skipped(learned)
            return Attached([self._on(p) for n, p in learned if chosen(n, p)], skipped)
        if isinstance(to, Tensor):
            fits = chosen("", to)
            return Attached([self._on(to)] if fits else [], () if fits else ("",))
        raise TypeError(f"expected a parameter, a model or an optimizer, got {type(to).__name__}")

    def _on(self, tensor: Tensor) -> RemovableHandle:
        # A hook that held its tensor would keep it alive.
        arrived = partial(self._arrived, of=weakref.ref(tensor))
        handle: RemovableHandle = tensor.register_hook(arrived)  # type: ignore[no-untyped-call]
        return handle

    def _fits(self, parameter: Tensor) -> bool:
        """Whether a parameter has the axes of the norm."""
        dims, most = parameter.dim(), self.most_dims
        return dims >= self.fewest_dims and (most is None or dims <= most)

    def _takes(self, grad: Tensor) -> bool:
        dense = grad.layout == torch.strided and grad.is_floating_point()
        return dense and self._fits(grad)

    def _of(self, grad: Tensor, parameter: Tensor) -> Tensor:
        """The gradient of a parameter, normalized."""
        given = (grad, parameter.detach()) if self.takes_weight else (grad,)
        return self(*given)  # type: ignore[no-any-return]

    def _arrived(self, grad: Tensor, of: weakref.ref[Tensor]) -> Tensor | None:
        parameter = of()
        takes = self._takes(grad) and parameter is not None
        return self._of(grad, parameter) if takes and parameter is not None else None

    def _before_step(
        self,
        optimizer: Optimizer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        chosen: _Chosen,
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        itself, *given = args
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            self._normalize(optimizer, chosen)
            return None

        def normalized() -> Any:
            loss = closure()
            self._normalize(optimizer, chosen)
            return loss

        return (itself,), {**kwargs, "closure": normalized}

    def _normalize(self, optimizer: Optimizer, chosen: _Chosen) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for name, parameter in _named(group, chosen.names):
                    grad = parameter.grad
                    if grad is not None and chosen(name, parameter) and self._takes(grad):
                        grad.copy_(self._of(grad, parameter))


@dataclass(frozen=True)
class _Chosen:
    """Which parameters a norm is for: those that fit, that `where` allows, and no name of `names`
    matches."""

    fits: Callable[[Tensor], bool]
    where: Callable[[Tensor], bool] | None
    names: tuple[str, ...]

    def __call__(self, name: str, parameter: Tensor) -> bool:
        last = name.rpartition(".")[2]
        named = any(fnmatchcase(name, n) or fnmatchcase(last, n) for n in self.names)
        allowed = self.where is None or bool(self.where(parameter))
        return self.fits(parameter) and allowed and not named

    def skipped(self, parameters: Sequence[tuple[str, Tensor]]) -> tuple[str, ...]:
        """The names of those that it is not for, or their places."""
        left = [(at, n) for at, (n, p) in enumerate(parameters) if not self(n, p)]
        return tuple(name or str(at) for at, name in left)


def _named(group: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a group of an optimizer, with their names where it knows them."""
    known = group.get("param_names")
    if names and known is None:
        raise ValueError(
            "the optimizer does not know the names of its parameters: make it with "
            "model.named_parameters(), or choose them with `where`"
        )
    yield from zip(known or [""] * len(group["params"]), group["params"])
