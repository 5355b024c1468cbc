"""Calls whose arguments look alike go the same way: what decides about it is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from metanorm.runtime.arguments import demand, demand_count
from metanorm.runtime.kernels.matrices import named_matrices
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.route import Like, Route
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.tensors import capturing, data, demand_memory, plain

MOST = 1 << 56  # elements of all groups, beyond any memory: no length overflows in C
REMEMBERED = 256  # ways of one norm; beyond, those of a stream of odd shapes are forgotten


class Routes:
    """The ways of one norm, for tensors on one type of device."""

    kind: ClassVar[type[Route]]

    def __init__(
        self, function: Callable[..., Any], names: tuple[str, ...], library: Any,
        table: Table, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.function = function
        self.names = names
        self.library = library
        self.table = table
        self.device = device
        self._found: dict[Any, Route | str] = {}  # or why there is none
        entries = [entry for ways in table.arms.values() for entry in ways.values()]
        counts = [f.name for entry in entries for f in entry.fields if f.kind == "groups"]
        self.momentum_arguments = tuple(name in table.momenta for name in names)
        self.indices = tuple(dict.fromkeys(name.removesuffix(".count") for name in counts))
        self.wide = {f.name for e in entries for f in e.fields if f.kind == "wide"}
        # Only training writes; of its forward fields that are buffers, some may only be read.
        training = [ways for arm, ways in table.arms.items() if arm.startswith("train")]
        forward = {f.name for ways in training for f in ways["forward"].fields}
        self._written = forward.intersection(table.buffers)

    def of(self, args: tuple[Any, ...]) -> tuple[Route, list[Tensor], list[float]]:
        """The way of a call, its tensors and its momenta. Raises `Unfit` and `CannotBuild`."""
        looks: list[Any] = []
        operands: list[Tensor] = []
        momenta: list[float] = []
        for value, is_momentum in zip(args, self.momentum_arguments):
            if is_momentum:
                momenta.append(_momentum(value))
            elif type(value) is Tensor or type(value) is Parameter:
                if not plain(value, self.device):
                    raise Unfit(f"a tensor that is not a plain one on the {self.where}")
                operands.append(value)
                looks.append((
                    value.shape, value.stride(), value.dtype, value.requires_grad,
                    value.get_device(),
                ))  # fmt: skip
            elif isinstance(value, Tensor):
                raise Unfit(f"a tensor that is not a plain one on the {self.where}")
            else:
                looks.append(_key(value))
        groups = self._groups(args) if self.indices else {}
        looks += groups.values()
        key = tuple(looks)
        route = self._found.get(key)
        if route is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            try:
                route = self._route(args, groups)
            except Unfit as reason:
                route = str(reason)
            self._found[key] = route
        if isinstance(route, str):
            raise Unfit(route)
        for number, nodes in route.edges:
            demand_memory(operands[number])
            low, high = self.extent(operands[number]) if operands[number].numel() else (0, -1)
            if low < 0 or high >= nodes:
                raise Unfit("edges out of range")  # of which the torch target says more
        for number in route.scattered:
            operands[number] = _in_one_piece(operands[number])
        return route, operands, momenta

    @property
    def where(self) -> str:
        """What people call the device."""
        return "CPU" if self.device == "cpu" else "GPU"

    def extent(self, index: Tensor) -> tuple[int, int]:
        """The smallest and the largest label; looked for in every call, since not only torch may
        write to memory of the CPU."""
        low, high = torch.aminmax(index)
        return int(low), int(high)

    def _groups(self, args: tuple[Any, ...]) -> dict[str, int]:
        """The numbers of groups of each index, which is checked here: kernels trust it."""
        values = dict(zip(self.names, args))
        found = {}
        for name in self.indices:
            index, size = values.get(name), values.get(f"{name}_size")
            if index is None:
                found[f"{name}.count"] = 1
                continue
            demand("index", index, name)
            if size is not None:
                demand_count(size, "groups", index.numel())
            if index.dtype != torch.int64:
                raise Unfit("an index that is not of int64")
            if size is not None and not isinstance(size, int):
                raise Unfit("a number of groups that is not whole")
            demand_memory(index)
            low, high = self.extent(index) if index.numel() else (0, -1)
            count = high + 1 if size is None else size
            if name in self.table.tables:  # a group for each row of the table
                count = self._rows(self.table.tables[name], values)
            each = values[self.names[0]].numel() // max(index.numel(), 1)  # elements of a row
            if low < 0 or high >= count or count * max(each, 1) > MOST:
                raise Unfit("labels out of range")  # of which the torch target says more
            found[f"{name}.count"] = count
        return found

    def _rows(self, dim: str, values: Mapping[str, Any]) -> int:
        """How many rows tables have, which no input tells. Raises `Unfit`."""
        for name, dims in self.table.tensors.items():
            tensor = values.get(name)
            if dim in dims and isinstance(tensor, Tensor) and tensor.dim() >= len(dims):
                place = dims.index(dim)
                stars = any(other.startswith("*") for other in dims[:place])
                return tensor.shape[place - len(dims) if stars else place]
        declared = self.table.lengths.get(dim)
        count = values.get(declared) if isinstance(declared, str) else declared
        if not isinstance(count, int):
            raise Unfit("a table of unknown length")
        return count

    def _route(self, args: tuple[Any, ...], groups: dict[str, int]) -> Route:
        table, values = self.table, dict(zip(self.names, args))
        x = values[self.names[0]]
        tensors = {
            n: v for n, v in values.items() if isinstance(v, Tensor) and n not in table.momenta
        }
        for name, tensor in tensors.items():
            demand(table.sorts.get(name, "tensor"), tensor, name)
        if not data(x, self.device):
            raise Unfit("an input that kernels do not know")
        if x.numel() == 0:
            raise Unfit("no elements")
        for name, tensor in tensors.items():
            if name not in table.tensors:
                raise Unfit("a tensor where a number is expected")
            if name in table.buffers and (tensor.requires_grad or not tensor.is_contiguous()):
                raise Unfit("a buffer that is strided or has a gradient")
        scattered = {n for n, t in tensors.items() if n not in self.wide and not t.is_contiguous()}
        for name in scattered:
            values[name] = tensors[name] = _in_one_piece(tensors[name])
        order, arm = tuple(tensors), self.arm(values)
        ways = table.arms[arm]
        extra = {**groups, **named_matrices(table, values, x)}
        made = self.kind.reading(self.library, table, {**values, **extra}, order)
        made.demand_few(table.cells[arm])
        for dim, factors in table.divisible.items():
            known: dict[str, Any] = {**made.sizes, **values}
            parts: list[Any] = [known.get(by) if isinstance(by, str) else by for by in factors]
            whole = all(isinstance(n, int) and n > 0 for n in parts)
            if not whole or made.sizes.get(dim, 0) % prod(parts):
                raise Unfit("a length that its number of parts does not divide")
        if any(not isinstance(values[name], int) or values[name] < 1 for name in table.widths):
            raise Unfit("a window that holds nothing")
        read = {f.name for f in ways["backward"].fields}
        unread = set(order) - read

        def numbers(among: Any) -> tuple[int, ...]:
            return tuple(i for i, name in enumerate(order) if name in among)

        return self.kind(
            function=self.function,
            library=self.library,
            table=table,
            arm=arm,
            operands=order,
            arguments={n: 1.0 if n in table.momenta else v
                       for n, v in values.items() if n not in tensors},
            extra=extra,
            prepared=made.of(ways["forward"]),
            differentiable=any(t.requires_grad for t in tensors.values()),
            scattered=numbers(scattered),
            edges=self._edges(order, tensors, made.sizes),
            changed=numbers(self.written(arm)),
            copied=numbers(set(table.buffers) - unread),
            unread=numbers(unread),
            likes=tuple(map(_like, tensors.values())),
            results=self.function.__globals__[table.results] if table.results else None,
            device=self.device,
        )  # fmt: skip

    def _edges(
        self, order: tuple[str, ...], tensors: Mapping[str, Tensor], sizes: Mapping[str, int]
    ) -> tuple[tuple[int, int], ...]:
        """The numbers of edge lists among the tensors, and of how many nodes each is. Raises
        `Unfit` for those that kernels cannot read."""
        nodes = {name: sizes[dim] for name, dim in self.table.edges.items()}
        if any(tensors[name].dtype != torch.int64 for name in nodes):
            raise Unfit("edges that are not of int64")
        return tuple((order.index(name), count) for name, count in nodes.items())

    def written(self, arm: str) -> set[str]:
        """The buffers that calls of an arm write to."""
        return self._written if arm.startswith("train") else set()

    def arm(self, values: Mapping[str, Any]) -> str:
        """Which way modes and flags go in this call. Raises `Unfit`."""
        on = [flag for flag in self.table.flags if values[flag]]
        return self._mode(values) + "".join(f"_with_{flag}" for flag in on)

    def _mode(self, values: Mapping[str, Any]) -> str:
        table = self.table
        kept = [values.get(name) is not None for name in table.tracked]
        if any(kept) and not all(kept):
            raise Unfit("some running statistics and not others")
        if "eval" not in table.arms or values.get("training"):
            return "train"
        return "eval" if all(kept) else table.without_statistics


def _like(tensor: Tensor) -> Like:
    return tensor.shape, tensor.dtype, tensor.stride()


def _in_one_piece(tensor: Tensor) -> Tensor:
    demand_memory(tensor)
    return tensor.contiguous()


def _key(value: Any) -> Any:
    """An argument as part of a key, in which zeros of two signs are not one."""
    if isinstance(value, list):
        return tuple(value)
    return value if value or value is None else repr(value)


def _momentum(value: Any) -> float:
    """The weight of a new value; a tensor counts the batches before, in an average over all."""
    if isinstance(value, Tensor):
        if capturing(value.device):
            raise Unfit("an average over all batches, and a CUDA graph is captured")
        demand_memory(value)
        value = 1 / (value.item() + 1)
    if not isinstance(value, (int, float)):
        raise Unfit("a momentum that is no number")
    return value
