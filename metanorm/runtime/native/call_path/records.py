"""Decodes what C recorded of a forward call, for a backward pass in Python."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import cast

import torch

from metanorm.runtime.kernels.call_plan import CallPlan, TensorSpec
from metanorm.runtime.native.calls import PreparedKernel


def plan_from_record(record: bytes, plan: CallPlan) -> CallPlan:
    """The plan of the call that left this record, from a plan with the same signature but sizes.

    A record has the number of bytes saved, the number of groups of each operand that is an index,
    and the rank, sizes and strides of each operand.
    """
    words = struct.unpack(f"={len(record) // 8}q", record)
    n_operands = len(plan.operand_names)
    counts, position = words[1 : 1 + n_operands], 1 + n_operands
    specs: list[TensorSpec] = []
    for spec in plan.operand_specs:
        rank = words[position]
        strides_start, end = position + 1 + rank, position + 1 + 2 * rank
        sizes, strides = words[position + 1 : strides_start], words[strides_start:end]
        specs.append(TensorSpec(torch.Size(sizes), spec.dtype, strides))
        position = end
    group_counts = {
        f"{name}.count": count
        for name, count in zip(plan.operand_names, counts)
        if f"{name}.count" in plan.extra_values
    }
    sizes_of_groups = {
        size: group_counts[f"{name}.count"]
        for name in plan.operand_names
        if f"{name}.count" in group_counts and (size := f"{name}_size") in plan.arguments
    }
    prepared = cast(PreparedKernel, plan.prepared)
    return replace(
        plan,
        arguments={**plan.arguments, **sizes_of_groups},
        operand_specs=tuple(specs),
        extra_values={**plan.extra_values, **group_counts},
        prepared=replace(prepared, saved_numel=words[0] // prepared.real.itemsize),
        backward_calls={},
    )
