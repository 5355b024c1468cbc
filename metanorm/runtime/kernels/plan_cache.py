"""The call plans of one norm, by the signatures of calls: what decides a plan is checked once."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from metanorm.runtime.arguments import demand, demand_count
from metanorm.runtime.kernels.call_plan import CallPlan, TensorSpec
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.matrices import matrices_by_name
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.tensors import (
    demand_memory,
    is_capturing,
    is_kernel_input,
    is_plain_tensor,
)

MAX_GROUP_ELEMENTS = 1 << 56  # elements of all groups, beyond any memory: no length overflows in C
MAX_PLANS = 256  # of one norm; a stream of odd shapes empties the cache


class PlanCache:
    """The call plans of one norm, for tensors on one type of device."""

    plan_class: ClassVar[type[CallPlan]]

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], library: Any,
        table: Table, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.function = function
        self.names = names
        self.library = library
        self.table = table
        self.device = device
        self._plans: dict[Any, CallPlan | str] = {}  # or why there is none
        entries = [entry for kernels in table.variants.values() for entry in kernels.values()]
        self.momentum_arguments = tuple(name in table.momenta for name in names)
        labels = [f.name for entry in entries for f in entry.fields if f.kind == "index"]
        self.indices = tuple(dict.fromkeys(labels))
        self.wide = {f.name for e in entries for f in e.fields if f.kind == "wide"}
        # Only training writes buffers; its forward kernel may merely read some of them.
        training = [k for variant, k in table.variants.items() if variant.startswith("train")]
        forward = {f.name for kernels in training for f in kernels["forward"].fields}
        self._buffers_written = forward.intersection(table.buffers)

    def lookup(self, args: tuple[Any, ...]) -> tuple[CallPlan, list[Tensor], list[float]]:
        """The plan of a call, its operands and its momenta.

        Raises `Unsupported` and `CannotBuild`.
        """
        signature: list[Any] = []
        operands: list[Tensor] = []
        momenta: list[float] = []
        for value, is_momentum in zip(args, self.momentum_arguments):
            if is_momentum:
                momenta.append(_momentum(value))
            elif type(value) is Tensor or type(value) is Parameter:
                if not is_plain_tensor(value, self.device):
                    raise Unsupported(f"a tensor that is not a plain one on the {self.device_name}")
                operands.append(value)
                signature.append((
                    value.shape, value.stride(), value.dtype, value.requires_grad,
                    value.get_device(), value.is_inference(),
                ))  # fmt: skip
            elif isinstance(value, Tensor):
                raise Unsupported(f"a tensor that is not a plain one on the {self.device_name}")
            else:
                signature.append(_hashable(value))
        group_counts = self._group_counts(args) if self.indices else {}
        signature += group_counts.values()
        key = tuple(signature)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            try:
                plan = self._make_plan(args, group_counts)
            except Unsupported as reason:
                plan = str(reason)
            self._plans[key] = plan
        if isinstance(plan, str):
            raise Unsupported(plan)
        for number, nodes in plan.edge_lists:
            demand_memory(operands[number])
            low, high = self.label_range(operands[number]) if operands[number].numel() else (0, -1)
            if low < 0 or high >= nodes:
                raise Unsupported("edges out of range")  # of which the torch target says more
        for number in plan.noncontiguous:
            operands[number] = _contiguous(operands[number])
        return plan, operands, momenta

    @property
    def device_name(self) -> str:
        """What people call the device."""
        return "CPU" if self.device == "cpu" else "GPU"

    def label_range(self, index: Tensor) -> tuple[int, int]:
        """The smallest and the largest label.

        Read in every call: not only torch may write to memory of the CPU.
        """
        low, high = torch.aminmax(index)
        return int(low), int(high)

    def _group_counts(self, args: tuple[Any, ...]) -> dict[str, int]:
        """The number of groups of each index, whose labels are checked here: kernels trust them."""
        values = dict(zip(self.names, args))
        counts = {}
        for name in self.indices:
            index, size = values.get(name), values.get(f"{name}_size")
            if index is None:
                counts[f"{name}.count"] = 1
                continue
            demand("index", index, name)
            if size is not None:
                demand_count(size, "groups", index.numel())
            if index.dtype != torch.int64:
                raise Unsupported("an index that is not of int64")
            if size is not None and not isinstance(size, int):
                raise Unsupported("a number of groups that is not whole")
            demand_memory(index)
            low, high = self.label_range(index) if index.numel() else (0, -1)
            count = high + 1 if size is None else size
            if name in self.table.tables:  # a group for each row of the table
                count = self._table_length(self.table.tables[name], values)
            row_numel = values[self.names[0]].numel() // max(index.numel(), 1)
            if low < 0 or high >= count or count * max(row_numel, 1) > MAX_GROUP_ELEMENTS:
                raise Unsupported("labels out of range")  # of which the torch target says more
            counts[f"{name}.count"] = count
        return counts

    def _table_length(self, dim: str, values: Mapping[str, Any]) -> int:
        """The length of a dimension that only tables have. Raises `Unsupported`."""
        for name, dims in self.table.tensors.items():
            tensor = values.get(name)
            if dim in dims and isinstance(tensor, Tensor) and tensor.dim() >= len(dims):
                position = dims.index(dim)
                after_variadic = any(other.startswith("*") for other in dims[:position])
                return tensor.shape[position - len(dims) if after_variadic else position]
        declared = self.table.lengths.get(dim)
        count = values.get(declared) if isinstance(declared, str) else declared
        if not isinstance(count, int):
            raise Unsupported("a table of unknown length")
        return count

    def _make_plan(self, args: tuple[Any, ...], group_counts: dict[str, int]) -> CallPlan:
        table, values = self.table, dict(zip(self.names, args))
        x = values[self.names[0]]
        tensors = {
            n: v for n, v in values.items() if isinstance(v, Tensor) and n not in table.momenta
        }
        self._check_tensors(x, tensors)
        noncontiguous = {
            n for n, t in tensors.items() if n not in self.wide and not t.is_contiguous()
        }
        for name in noncontiguous:
            values[name] = tensors[name] = _contiguous(tensors[name])
        order, variant = tuple(tensors), self.variant_of(values)
        kernels = table.variants[variant]
        read = {field.name for field in kernels["forward"].fields}
        if any(name in read and values[name] is None for name in table.drawn):
            raise Unsupported("random numbers that are missing")
        extra = {**group_counts, **matrices_by_name(table, values, x)}
        binding = self.plan_class.binding_class(self.library, table, {**values, **extra}, order)
        binding.demand_few(table.cells[variant])
        self._check_lengths(binding.sizes, values)
        backward = kernels["backward"]
        unsaved = set(order) - {f.name for f in backward.fields} - set(backward.through)

        def numbers(names: Container[str]) -> tuple[int, ...]:
            return tuple(i for i, name in enumerate(order) if name in names)

        return self.plan_class(
            function=self.function,
            library=self.library,
            table=table,
            variant=variant,
            operand_names=order,
            arguments={n: 1.0 if n in table.momenta else v
                       for n, v in values.items() if n not in tensors},
            extra_values=extra,
            prepared=binding.prepare(kernels["forward"]),
            differentiable=any(t.requires_grad for t in tensors.values()),
            noncontiguous=numbers(noncontiguous),
            edge_lists=self._edge_lists(order, tensors, binding.sizes),
            mutated=numbers(self.buffers_written(variant)),
            cloned=numbers(set(table.buffers) - unsaved),
            unsaved=numbers(unsaved),
            operand_specs=tuple(map(_spec_of, tensors.values())),
            output_class=self.function.__globals__[table.results] if table.results else None,
            device=self.device,
        )  # fmt: skip

    def _check_tensors(self, x: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Raise `Unsupported` for tensors that no kernel takes, `TypeError` for wrong dtypes."""
        for name, tensor in tensors.items():
            demand(self.table.sorts.get(name, "tensor"), tensor, name)
        if not is_kernel_input(x, self.device):
            raise Unsupported("an input that kernels do not know")
        if x.numel() == 0:
            raise Unsupported("no elements")
        for name, tensor in tensors.items():
            if name not in self.table.tensors:
                raise Unsupported("a tensor where a number is expected")
            is_buffer = name in self.table.buffers
            if is_buffer and (tensor.requires_grad or not tensor.is_contiguous()):
                raise Unsupported("a buffer that is strided or has a gradient")

    def _check_lengths(self, sizes: Mapping[str, int], values: Mapping[str, Any]) -> None:
        """Raise `Unsupported` for lengths that blocks do not divide, and for empty windows."""
        for dim, factors in self.table.divisible.items():
            lengths: dict[str, Any] = {**sizes, **values}
            parts: list[Any] = [lengths.get(by) if isinstance(by, str) else by for by in factors]
            are_counts = all(isinstance(n, int) and n > 0 for n in parts)
            if not are_counts or sizes.get(dim, 0) % prod(parts):
                raise Unsupported("a length that its number of parts does not divide")
        widths = [values[name] for name in self.table.widths]
        if any(not isinstance(width, int) or width < 1 for width in widths):
            raise Unsupported("a window that holds nothing")

    def _edge_lists(
        self, order: tuple[str, ...], tensors: Mapping[str, Tensor], sizes: Mapping[str, int]
    ) -> tuple[tuple[int, int], ...]:
        """The operand number and the node count of each edge list.

        Raises `Unsupported` for those that kernels cannot read.
        """
        nodes = {name: sizes[dim] for name, dim in self.table.edges.items()}
        if any(tensors[name].dtype != torch.int64 for name in nodes):
            raise Unsupported("edges that are not of int64")
        return tuple((order.index(name), count) for name, count in nodes.items())

    def buffers_written(self, variant: str) -> set[str]:
        """The buffers that calls of a variant write to."""
        return self._buffers_written if variant.startswith("train") else set()

    def variant_of(self, values: Mapping[str, Any]) -> str:
        """The variant that modes and flags of a call choose. Raises `Unsupported`."""
        flags_set = [flag for flag in self.table.flags if values[flag]]
        return self._mode(values) + "".join(f"_with_{flag}" for flag in flags_set)

    def _mode(self, values: Mapping[str, Any]) -> str:
        table = self.table
        tracked = [values.get(name) is not None for name in table.tracked]
        if any(tracked) and not all(tracked):
            raise Unsupported("some running statistics and not others")
        if "eval" not in table.variants or values.get("training"):
            return "train"
        return "eval" if all(tracked) else table.without_statistics


def _spec_of(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.shape, tensor.dtype, tensor.stride())


def _contiguous(tensor: Tensor) -> Tensor:
    demand_memory(tensor)
    return tensor.contiguous()


def _hashable(value: Any) -> Any:
    """An argument as part of a signature, in which 0.0 and -0.0 differ."""
    if isinstance(value, list):
        return tuple(value)
    return value if value or value is None else repr(value)


def _momentum(value: Any) -> float:
    """The weight of a new value in a running statistic.

    A tensor counts the batches before this one; all batches then weigh the same.
    """
    if isinstance(value, Tensor):
        if is_capturing(value.device):
            raise Unsupported("an average over all batches, and a CUDA graph is captured")
        demand_memory(value)
        value = 1 / (value.item() + 1)
    if not isinstance(value, (int, float)):
        raise Unsupported("a momentum that is no number")
    return value
