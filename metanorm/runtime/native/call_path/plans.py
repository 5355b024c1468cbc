"""Encodes call plans for the call path in C.

An encoded plan reads lengths and strides in the tensors of each call, so that one plan serves all
batch sizes. Guards protect what was decided by the lengths of the first call: a plan does not serve
a call for which the decision would differ. Where no guard can express that, the plan is pinned to
the lengths and strides of the first call.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import torch
from torch import Tensor

from metanorm.runtime.kernels.autograd import cannot_be_saved
from metanorm.runtime.kernels.binding import MANY, Span
from metanorm.runtime.kernels.call_plan import CallPlan, Operands
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.kernels.scalars import reads_lengths
from metanorm.runtime.native.call_path import encoding
from metanorm.runtime.native.call_path.encoding import (
    AT_MOST,
    DIVISIBLE,
    DTYPES,
    EQUAL,
    EXACTLY,
    FEW,
    Layout,
    TooLarge,
    bit_set,
    guard_words,
    layout_of,
    table,
)
from metanorm.runtime.native.call_path.symbols import dispatch_keys
from metanorm.runtime.native.calls import PreparedKernel, kernel_name
from metanorm.runtime.native.machine import last_level_cache

OPERAND, INDEX, CONSTANT, NUMBER_OF_GROUPS, MOMENTUM = range(5)  # kinds of arguments
FILL_KINDS = {"size": 0, "stride": 1, "count": 2}
FILL_MOMENTUM, FILL_POINTER, FILL_SAVED = 3, 4, 5

# The numbers of words of the structures in `plan.h`.
KERNEL_WORDS = (
    *(5, 1 + encoding.MAX_WORDS, 1 + 5 * encoding.MAX_FILLS),
    1 + encoding.GUARD_WORDS * encoding.MAX_GUARDS,
    1 + encoding.RESULT_WORDS * encoding.MAX_TENSORS,
)
TENSOR_WORDS = 1 + Layout.WIDTH * encoding.MAX_TENSORS
ARGUMENT_WORDS = 5
FORWARD_WORDS = 1 + ARGUMENT_WORDS * encoding.MAX_ARGUMENTS + TENSOR_WORDS + 3 + sum(KERNEL_WORDS)
BACKWARD_WORDS = 1 + TENSOR_WORDS + sum(KERNEL_WORDS)

_kernel_names: dict[str, ctypes.c_char_p] = {}  # C points to them


@dataclass(frozen=True)
class EncodedPlan:
    """A forward plan as words, and the constants whose addresses are among them."""

    words: bytes
    constants: tuple[Any, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that is equal for plans that serve the same calls."""
        words = self.words
        for constant in self.constants:
            words = words.replace(struct.pack("=q", id(constant)), b"constant")
        return words, tuple(map(repr, self.constants))


def encode_forward(plans: PlanCache, plan: CallPlan, args: Sequence[Any]) -> EncodedPlan | None:
    """The encoded plan of calls with the signature of `args`; `None` if C cannot run them."""
    operands: list[Tensor] = [
        value
        for value, is_momentum in zip(args, plans.momentum_arguments)
        if isinstance(value, Tensor) and not is_momentum
    ]
    if plan.edge_lists:  # no guard reads the ends of edges
        return None
    if plan.noncontiguous or any(operands[number].is_inference() for number in plan.mutated):
        return None
    if plan.differentiable and cannot_be_saved(plan, operands):
        return None
    prepared = cast(PreparedKernel, plan.prepared)
    pinned = _is_pinned(plan, prepared)
    layouts = []
    for number, (name, tensor) in enumerate(zip(plan.operand_names, operands)):
        layout = layout_of(
            tensor.shape, tensor.stride(), first=number == 0,
            narrow=number > 0 and name not in plans.wide, like=False, pinned=pinned,
        )  # fmt: skip
        fields = _dispatch_fields(tensor) | {"requires_grad": int(tensor.requires_grad)}
        layouts.append(replace(layout, **fields))
    constants: list[Any] = []
    try:
        arguments = _argument_rows(plans, prepared, args, constants)
        words = [
            *table(arguments, encoding.MAX_ARGUMENTS, ARGUMENT_WORDS),
            *table([layout.words() for layout in layouts], encoding.MAX_TENSORS, Layout.WIDTH),
            *map(bit_set, (plan.mutated, plan.cloned, plan.unsaved)),
            *_kernel_words(plan, prepared, layouts, backward=False),
        ]
    except (TooLarge, KeyError):
        return None
    return EncodedPlan(struct.pack(f"={FORWARD_WORDS}q", *words), tuple(constants))


def encode_backward(
    plans: PlanCache, plan: CallPlan, prepared: PreparedKernel, operands: Operands,
    gradients: Sequence[Tensor], needed: Sequence[bool],
) -> bytes | None:  # fmt: skip
    """The encoded plan of backward calls with these layouts; `None` if C cannot run them."""
    pinned = _is_pinned(plan, prepared)
    result_operands = {slot.operand for slot in prepared.results}
    layouts = []
    for number, (name, tensor) in enumerate(zip(plan.operand_names, operands)):
        sizes, _, strides = plan.operand_specs[number]
        if tensor is not None:
            sizes, strides = tensor.shape, tensor.stride()
        layout = layout_of(
            sizes, strides, first=number == 0, narrow=number > 0 and name not in plans.wide,
            like=number in result_operands, pinned=pinned,
        )  # fmt: skip
        layouts.append(replace(layout, **_dispatch_fields(tensor)))
    for gradient, slot in zip(gradients, plan.prepared.results):
        layout = layout_of(
            gradient.shape, gradient.stride(), first=False, narrow=not slot.wide, like=False,
            pinned=pinned,
        )  # fmt: skip
        layouts.append(replace(layout, **_dispatch_fields(gradient)))
    try:
        words = [
            bit_set(number for number, need in enumerate(needed) if need),
            *table([layout.words() for layout in layouts], encoding.MAX_TENSORS, Layout.WIDTH),
            *_kernel_words(plan, prepared, layouts, backward=True),
        ]
    except (TooLarge, KeyError):
        return None
    return struct.pack(f"={BACKWARD_WORDS}q", *words)


def _is_pinned(plan: CallPlan, prepared: PreparedKernel) -> bool:
    """Whether lengths decided something that guards cannot express.

    That is a matrix that was made for a length, a number of parts that is itself a length, runs of
    an axis, a result along a part whose length follows from another, or results that do not fit
    into the caches.
    """
    parts = [factor for factors in plan.table.divisible.values() for factor in factors]
    return (
        bool(plan.table.matrices)
        or bool(plan.table.runs)
        or any(map(reads_lengths, plan.table.computed.values()))
        or prepared.exceeds_cache
        or any(isinstance(factor, str) and factor in prepared.spans for factor in parts)
    )


def _dispatch_fields(tensor: Tensor | None) -> dict[str, Any]:
    """The fields of a `Layout` that sizes and strides do not decide."""
    return {} if tensor is None else {"keys": dispatch_keys(tensor), "dtype": tensor.dtype}


def _argument_rows(
    plans: PlanCache, prepared: PreparedKernel, args: Sequence[Any], constants: list[Any]
) -> list[list[int]]:
    """An encoded `Argument` for each argument; adds to `constants`. Raises `TooLarge`."""
    values = dict(zip(plans.names, args))
    indices = [name for name in plans.indices if values[name] is not None]
    size_names = {f"{name}_size" for name in indices}.intersection(values)
    rows = []
    for (name, value), is_momentum in zip(values.items(), plans.momentum_arguments):
        if is_momentum:
            rows.append([MOMENTUM, 0, 0, -1, 0])
        elif name in indices:
            size_name = f"{name}_size"
            size_position = plans.names.index(size_name) if size_name in size_names else -1
            table_length = _table_length_source(plans.table.tables.get(name), prepared)
            rows.append([INDEX, 0, size_position, *table_length])
        elif isinstance(value, Tensor):
            rows.append([OPERAND, 0, 0, -1, 0])
        elif name in size_names:
            rows.append([NUMBER_OF_GROUPS, 0, 0, -1, 0])
        else:
            constants.append(_comparable(value))
            rows.append([CONSTANT, id(constants[-1]), 0, -1, 0])
    return rows


def _table_length_source(dim: str | None, prepared: PreparedKernel) -> tuple[int, int]:
    """The operand and its dimension that is as long as a table; -1 for no table.

    Raises `TooLarge` if no operand has it.
    """
    if dim is None:
        return -1, 0
    spans = prepared.spans.get(dim)
    if not spans:
        raise TooLarge
    return spans[0].tensor, spans[0].first


def _comparable(value: Any) -> Any:
    """A copy of a value whose type C can compare. Raises `TooLarge` for any other.

    Classes of users are no such types: their comparisons may do anything, such as call norms.
    """
    if type(value) in (tuple, torch.Size):
        return type(value)(map(_comparable, value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TooLarge


def _kernel_words(
    plan: CallPlan, prepared: PreparedKernel, layouts: Sequence[Layout], *, backward: bool
) -> list[int]:
    """An encoded `Kernel`; `layouts` are those of its tensors."""
    name = kernel_name(plan.function.__name__, backward=backward)
    packed = prepared.pack(*prepared.template)
    words = struct.unpack(f"={len(packed) // 8}q", packed)
    c_name = _kernel_names.setdefault(name, ctypes.c_char_p(name.encode()))
    saves = prepared.saved_offset and hasattr(prepared.library, "kept")
    if len(layouts) + len(prepared.results) > encoding.MAX_TENSORS:
        raise TooLarge
    return [
        _address(prepared.function),
        _address(prepared.library.kept) if saves else 0,
        ctypes.cast(c_name, ctypes.c_void_p).value or 0,
        DTYPES[prepared.real], prepared.real.itemsize,
        len(words), *encoding.padded(words, encoding.MAX_WORDS),
        *table(_fill_rows(prepared, len(layouts)), encoding.MAX_FILLS, 5),
        *table(_guard_rows(plan, prepared, layouts), encoding.MAX_GUARDS, encoding.GUARD_WORDS),
        *table(
            [encoding.result_words(slot, layouts[slot.operand]) for slot in prepared.results],
            encoding.MAX_TENSORS, encoding.RESULT_WORDS,
        ),
    ]  # fmt: skip


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _fill_rows(prepared: PreparedKernel, n_tensors: int) -> list[list[int]]:
    """An encoded `Fill` for each word that differs from call to call."""
    rows = [
        [word.offset, FILL_KINDS[word.kind], *encoding.span_words(word.span)]
        for word in prepared.layout_words
    ]
    rows += [[offset, FILL_POINTER, number, 0, 0] for offset, number in prepared.pointers]
    rows += [
        [slot.offset, FILL_POINTER, n_tensors + n, 0, 0] for n, slot in enumerate(prepared.results)
    ]
    rows += [
        [offset, FILL_MOMENTUM, number, 0, 0] for number, offset in enumerate(prepared.momenta)
    ]
    if prepared.saved_offset:
        rows.append([prepared.saved_offset, FILL_SAVED, 0, 0, 0])
    return rows


def _guard_rows(
    plan: CallPlan, prepared: PreparedKernel, layouts: Sequence[Layout]
) -> list[list[int]]:
    """An encoded `Guard` for each decision that other lengths could change."""
    spans = prepared.spans
    guards = []
    for same_length in spans.values():
        first, *others = same_length
        guards += [guard_words(EQUAL, (first, other)) for other in others]
    for dim, factors in plan.table.divisible.items():
        parts = [
            plan.arguments[factor] if isinstance(factor, str) else factor for factor in factors
        ]
        guards += [guard_words(DIVISIBLE, (spans[dim][0],), prod(parts))]
    for dim, length in plan.table.lengths.items():
        declared = plan.arguments.get(length) if isinstance(length, str) else length
        if isinstance(declared, int) and dim in spans:
            guards.append(guard_words(EXACTLY, (spans[dim][0],), declared))
    for dims in plan.table.cells[plan.variant]:
        cells = [spans[dim][0] for dim in dims if dim in spans]
        guards += [guard_words(FEW, cells, MANY)]
    if not prepared.exceeds_cache:
        max_numel = last_level_cache() // (2 * prepared.real.itemsize)
        wide = {0, *(m.span.tensor for m in prepared.layout_words if m.kind == "stride")}
        guards += [
            guard_words(AT_MOST, (Span(number, 0, len(layouts[number].sizes)),), max_numel)
            for number in sorted(wide)
            if number < len(layouts) and layouts[number].dtype == prepared.real
        ]
    return guards
