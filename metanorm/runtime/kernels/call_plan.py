"""Call plans: what calls with one signature have in common, in both directions.

The signature of a call is the shape, strides, dtype, device and `requires_grad` of each tensor,
whether it was made in inference mode, and the value of every other argument. `plan_cache.py` makes
one plan for each signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.kernels.binding import CallBinding, PreparedCall
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.saving import demand_unchanged

Outputs = tuple[Tensor, ...]
Operands = Sequence["Tensor | None"]
Gradients = list["Tensor | None"]


class TensorSpec(NamedTuple):
    """What is known of a tensor without its memory."""

    shape: torch.Size
    dtype: torch.dtype
    strides: tuple[int, ...]


@dataclass
class CallPlan:
    """How calls with one signature run on kernels.

    The operands of a call are its tensors, in the order of `operand_names`; several fields hold
    their numbers in that order.
    """

    function: Callable[..., Any]
    library: Any
    table: Table
    variant: str
    operand_names: tuple[str, ...]
    arguments: dict[str, Any]  # arguments of the function that are not tensors
    extra_values: dict[str, Any]  # numbers of groups, and matrices that are given by name
    prepared: PreparedCall
    differentiable: bool
    noncontiguous: tuple[int, ...]  # operands that have to be copied to contiguous memory
    edge_lists: tuple[tuple[int, int], ...]  # operands that are edge lists, and their node counts
    mutated: tuple[int, ...]  # operands that a call writes to
    cloned: tuple[int, ...]  # operands of which the backward pass needs the state at the call
    unsaved: tuple[int, ...]  # operands that no gradient depends on
    operand_specs: tuple[TensorSpec, ...]
    output_class: Callable[..., Any] | None  # the named tuple of several outputs
    device: str = "cpu"  # the device type
    backward_calls: dict[Any, PreparedCall | str] = field(default_factory=dict)  # or why none
    backward_failed: bool = False  # the backward kernel cannot be built
    offered_to_c: bool = False  # the call path in C has been offered this plan

    binding_class: ClassVar[type[CallBinding]]

    def allocate_saved(self) -> Tensor | None:
        """Memory for the values that the forward kernels save for the backward ones."""
        raise NotImplementedError

    def launch(
        self, prepared: Any, operands: Operands, momenta: Sequence[float],
        results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        """Run the kernels of a prepared call."""
        raise NotImplementedError

    def forward(
        self, operands: Operands, momenta: Sequence[float], save: bool
    ) -> tuple[Outputs, Tensor | None]:
        """The outputs, and with `save` what the backward kernel reads."""
        # The small allocation first: it would split the block that the last large result has freed.
        saved = self.allocate_saved()
        device = operands[0].device  # type: ignore[union-attr]
        results = [slot.allocate(device) for slot in self.prepared.results]
        self.launch(self.prepared, operands, momenta, results, saved)
        return tuple(results), saved if save else None

    def demand_unchanged(
        self, operands: Operands, saved: Tensor | None, device: torch.device
    ) -> None:
        """Raise `RuntimeError` if hooks gave saved tensors back changed.

        Their strides may differ: the backward call is chosen by them.
        """
        for tensor, spec in zip(operands, self.operand_specs):
            if tensor is not None:
                demand_unchanged(tensor, spec.shape, spec.dtype, device)
        if saved is not None:
            shape = torch.Size([self.prepared.saved_numel])
            demand_unchanged(saved, shape, self.prepared.real, device)

    def backward(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool],
        saved: Tensor | None,
    ) -> Gradients:  # fmt: skip
        """The gradients of the operands that need one, from the backward kernel."""
        prepared, gradients = self.backward_call(operands, gradients, needed)
        saved = None if saved is None else saved.contiguous()
        results = [slot.allocate(gradients[0].device) for slot in prepared.results]
        self.launch(prepared, (*operands, *gradients), (), results, saved)
        operand_gradients: Gradients = [None] * len(operands)
        for slot, result in zip(prepared.results, results):
            operand_gradients[slot.operand] = result
        return operand_gradients

    def backward_call(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[Any, Sequence[Tensor]]:
        """The prepared backward call, and the gradients that it takes.

        Gradients that the kernel cannot read in their layout are copied to contiguous memory.
        Raises `Unsupported` and `CannotBuild`.
        """
        slots = self.prepared.results
        gradients = [g if slot.wide else g.contiguous() for g, slot in zip(gradients, slots)]
        try:
            return self._cached_backward_call(operands, gradients, needed), gradients
        except Unsupported:  # torch's layers would copy it, too
            gradients = [g.contiguous() for g in gradients]
            return self._cached_backward_call(operands, gradients, needed), gradients

    def _cached_backward_call(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> PreparedCall:
        """The backward call for these layouts, prepared once. Raises `Unsupported`."""
        signature = (*needed, *map(_layout_key, gradients), *map(_layout_key, operands))
        prepared = self.backward_calls.get(signature)
        if prepared is None:
            try:
                prepared = self._prepare_backward(operands, gradients, needed)
            except Unsupported as reason:
                prepared = str(reason)
            self.backward_calls[signature] = prepared
        if isinstance(prepared, str):
            raise Unsupported(prepared)
        return prepared

    def _prepare_backward(
        self, operands: Operands, gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> PreparedCall:
        wanted = {f"d.{name}" for name, need in zip(self.operand_names, needed) if need}
        order = (*self.operand_names, *[f"d.{slot.name}" for slot in self.prepared.results])
        inputs = [
            _meta_tensor(spec) if tensor is None else tensor
            for tensor, spec in zip(operands, self.operand_specs)
        ]
        tensors = dict(zip(order, (*inputs, *gradients)))
        values = {**self.arguments, **self.extra_values, **tensors}
        binding = self.binding_class(self.library, self.table, values, order, wanted.__contains__)
        return binding.prepare(self.table.variants[self.variant]["backward"])

    def rerun_on_torch(self, operands: Operands) -> Any:
        """The outputs by the torch target, with no buffer updated, for higher derivatives.

        No gradient depends on operands that were not saved: zeros may stand for them.
        """
        values = {**self.arguments, **dict(zip(self.operand_names, operands))}
        for name in self.table.buffers:
            if name in self.table.tracked and not self.variant.startswith("eval"):
                values[name] = None
            elif values.get(name) is not None:
                values[name] = values[name].clone()
        return self.function(**values)


def _layout_key(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.stride(), tensor.dtype)


def _meta_tensor(spec: TensorSpec) -> Tensor:
    """A tensor without memory, for one that was not saved."""
    return torch.empty_strided(spec.shape, spec.strides, dtype=spec.dtype, device="meta")
