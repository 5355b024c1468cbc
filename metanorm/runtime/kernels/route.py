"""What calls that look alike have in common: both directions, prepared, and what autograd keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from metanorm.runtime.kernels.reading import Prepared, Reading
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.saving import demand_alike

Outputs = tuple[Tensor, ...]
Operands = Sequence["Tensor | None"]
Gradients = list["Tensor | None"]
Like = tuple[torch.Size, torch.dtype, tuple[int, ...]]  # strides, too


@dataclass
class Route:
    """The way of calls that look alike.

    `operands` names the tensors that they bring, in order; `arguments` has all arguments of the
    function that are no tensors.
    """

    function: Callable[..., Any]
    library: Any
    table: Table
    arm: str
    operands: tuple[str, ...]
    arguments: dict[str, Any]
    extra: dict[str, Any]  # numbers of groups and matrices that go by name
    prepared: Prepared
    differentiable: bool
    scattered: tuple[int, ...]  # operands that have to be made contiguous
    edges: tuple[tuple[int, int], ...]  # those that are edge lists, and of how many nodes
    changed: tuple[int, ...]  # those that a call writes to
    copied: tuple[int, ...]  # those whose state at the call is kept for the way back
    unread: tuple[int, ...]  # those that the way back does not look at
    likes: tuple[Like, ...]  # of each, what is known without its memory
    results: Callable[..., Any] | None
    device: str = "cpu"  # its type
    backward: dict[Any, Prepared | str] = field(default_factory=dict)  # by the looks of its tensors
    failed: bool = False  # whether the backward kernel cannot be built
    planned: bool = False  # whether the path through C has been offered a plan of it

    reading: ClassVar[type[Reading]]

    def memory(self) -> Tensor | None:
        """Room for what the backward kernels need."""
        raise NotImplementedError

    def launch(
        self, prepared: Any, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> None:  # fmt: skip
        """One call of what was prepared."""
        raise NotImplementedError

    def forward(
        self, operands: Operands, momenta: Sequence[float], keep: bool
    ) -> tuple[Outputs, Tensor | None]:
        """The outputs, and what the backward kernel needs."""
        # The small one first: it would break up the room that the last large result has left.
        kept = self.memory()
        device = operands[0].device  # type: ignore[union-attr]
        results = [place.allocated(device) for place in self.prepared.results]
        self.launch(self.prepared, operands, momenta, results, kept)
        return tuple(results), kept if keep else None

    def demand_saved(self, operands: Operands, kept: Tensor | None, device: torch.device) -> None:
        """Refuse saved tensors that are not what they were; only their strides may be others, by
        which a way back is chosen. Raises `RuntimeError`."""
        for tensor, (shape, dtype, _) in zip(operands, self.likes):
            if tensor is not None:
                demand_alike(tensor, shape, dtype, device)
        if kept is not None:
            demand_alike(kept, torch.Size([self.prepared.kept]), self.prepared.real, device)

    def back(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool],
        kept: Tensor | None,
    ) -> Gradients:  # fmt: skip
        """The gradients of the operands that need one."""
        prepared, gradients = self.backward_call(operands, gradients, needed)
        kept = None if kept is None else kept.contiguous()
        everything = (*operands, *gradients)
        results = [place.allocated(gradients[0].device) for place in prepared.results]
        self.launch(prepared, everything, (), results, kept)
        found: Gradients = [None] * len(operands)
        for place, result in zip(prepared.results, results):
            found[place.operand] = result
        return found

    def backward_call(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[Any, Sequence[Tensor]]:
        """The prepared call of the backward kernel, and the gradients that it takes: contiguous
        copies of those that it cannot read as they lie. Raises `Unfit` and `CannotBuild`."""
        outputs = self.prepared.results
        gradients = [g if p.wide else g.contiguous() for g, p in zip(gradients, outputs)]
        try:
            return self._known_call(operands, gradients, needed), gradients
        except Unfit:  # it lies in pieces; torch's layers would copy it, too
            gradients = [g.contiguous() for g in gradients]
            return self._known_call(operands, gradients, needed), gradients

    def _known_call(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> Prepared:
        """What was found out about tensors that lie like these. Raises `Unfit`."""
        looks = (*needed, *map(_lies, gradients), *map(_lies, operands))
        found = self.backward.get(looks)
        if found is None:
            try:
                found = self._back(operands, gradients, needed)
            except Unfit as reason:
                found = str(reason)
            self.backward[looks] = found
        if isinstance(found, str):
            raise Unfit(found)
        return found

    def _back(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> Prepared:
        wanted = {f"d.{name}" for name, need in zip(self.operands, needed) if need}
        order = (*self.operands, *[f"d.{place.name}" for place in self.prepared.results])
        given = [_shade(like) if t is None else t for t, like in zip(operands, self.likes)]
        values = {**self.arguments, **self.extra, **dict(zip(order, (*given, *gradients)))}
        made = self.reading(self.library, self.table, values, order, wanted.__contains__)
        return made.of(self.table.arms[self.arm]["backward"])

    def again(self, operands: Operands) -> Any:
        """The outputs by the torch target, with nothing updated, for gradients of gradients.

        No gradient depends on operands that were not saved, so that zeros do for them.
        """
        values = {**self.arguments, **dict(zip(self.operands, operands))}
        for name in self.table.buffers:
            if name in self.table.tracked and not self.arm.startswith("eval"):
                values[name] = None
            elif values.get(name) is not None:
                values[name] = values[name].clone()
        return self.function(**values)


def _lies(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.stride(), tensor.dtype)


def _shade(like: Like) -> Tensor:
    """A tensor without memory, for what was not saved."""
    shape, dtype, strides = like
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
