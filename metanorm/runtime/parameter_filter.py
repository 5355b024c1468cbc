"""Which parameters a norm for gradients or steps is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class ParameterFilter:
    """The parameters of a norm: those that fit, that `where` accepts, and that are not skipped.

    `names` has the patterns of names to skip.
    """

    fits: Callable[[Tensor], bool]
    where: Callable[[Tensor], bool] | None
    names: tuple[str, ...]

    def __call__(self, name: str, parameter: Tensor) -> bool:
        """Whether it is for this parameter."""
        last = name.rpartition(".")[2]
        named = any(fnmatchcase(name, n) or fnmatchcase(last, n) for n in self.names)
        allowed = self.where is None or bool(self.where(parameter))
        return self.fits(parameter) and allowed and not named

    def of_optimizer(self, optimizer: Optimizer) -> Iterator[Tensor]:
        """The parameters of an optimizer that it accepts."""
        for name, parameter in self._named(optimizer):
            if self(name, parameter):
                yield parameter

    def skipped(self, parameters: Optimizer | Sequence[tuple[str, Tensor]]) -> tuple[str, ...]:
        """The names of the parameters that it does not accept, or their positions."""
        named: Iterable[tuple[str, Tensor]] = (
            self._named(parameters) if isinstance(parameters, Optimizer) else parameters
        )
        skipped = [(position, n) for position, (n, p) in enumerate(named) if not self(n, p)]
        return tuple(name or str(position) for position, name in skipped)

    def _named(self, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
        for group in optimizer.param_groups:
            yield from _named_parameters(group, self.names)


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
