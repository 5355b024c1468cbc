"""Plans of calls, for C: what a route found out about one call, for all that look like it.

A plan reads lengths and strides in the tensors of each call, so that one serves batches of all
sizes. What was decided by the lengths of the first call is guarded: a plan does not serve calls for
which it would have been decided otherwise. Where that cannot be said so, lengths and strides have
to be those of the first call.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

from torch import Tensor

from metanorm.runtime.kernels.reading import MANY, Span
from metanorm.runtime.kernels.route import Operands, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.native.call_path import layouts
from metanorm.runtime.native.call_path.layouts import (
    AT_MOST,
    DIVISIBLE,
    DTYPES,
    EQUAL,
    EXACTLY,
    FEW,
    Layout,
    TooLarge,
    bits,
    guard,
    layout_of,
    table,
)
from metanorm.runtime.native.call_path.symbols import dispatch_keys
from metanorm.runtime.native.calls import Prepared, kernel_name
from metanorm.runtime.native.machine import last_level_cache

OPERAND, INDEX, CONSTANT, NUMBER_OF_GROUPS, MOMENTUM = range(5)  # kinds of arguments
FILLS = {"size": 0, "stride": 1, "count": 2}
FILL_MOMENTUM, FILL_POINTER, FILL_SAVED = 3, 4, 5

# How many words the structures of these names have.
KERNEL = (
    *(5, 1 + layouts.MAX_WORDS, 1 + 5 * layouts.MAX_FILLS),
    *(1 + layouts.GUARD * layouts.MAX_GUARDS, 1 + layouts.RESULT * layouts.MAX_TENSORS),
)
TENSORS = 1 + Layout.WIDTH * layouts.MAX_TENSORS
ARGUMENT = 5
FORWARD = 1 + ARGUMENT * layouts.MAX_ARGUMENTS + TENSORS + 3 + sum(KERNEL)
BACKWARD = 1 + TENSORS + sum(KERNEL)

_names: dict[str, ctypes.c_char_p] = {}  # which C points to


@dataclass(frozen=True)
class Forward:
    """A plan as C takes it, and the constants that it points to, which must live until then."""

    words: bytes
    constants: tuple[Any, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What two plans that serve the same calls have in common."""
        words = self.words
        for constant in self.constants:
            words = words.replace(struct.pack("=q", id(constant)), b"constant")
        return words, tuple(map(repr, self.constants))


def forward_plan(routes: Routes, route: Route, args: Sequence[Any]) -> Forward | None:
    """The plan of calls like this one, or `None` where C cannot serve such."""
    operands: list[Tensor] = [
        a for a, m in zip(args, routes.momentum_arguments) if isinstance(a, Tensor) and not m
    ]
    if route.edges:  # whose ends no guard looks at
        return None
    if route.scattered or any(operands[number].is_inference() for number in route.changed):
        return None
    prepared = cast(Prepared, route.prepared)
    pinned = _is_pinned(route, prepared)
    rows = []
    for number, (name, tensor) in enumerate(zip(route.operands, operands)):
        lies = layout_of(
            tensor.shape, tensor.stride(), first=number == 0,
            narrow=number > 0 and name not in routes.wide, like=False, pinned=pinned,
        )  # fmt: skip
        looks = _looks(tensor) | {"requires_grad": int(tensor.requires_grad)}
        rows.append(replace(lies, **looks))
    constants: list[Any] = []
    try:
        words = [
            *table(_arguments(routes, prepared, args, constants), layouts.MAX_ARGUMENTS, ARGUMENT),
            *table([row.words() for row in rows], layouts.MAX_TENSORS, Layout.WIDTH),
            *map(bits, (route.changed, route.copied, route.unread)),
            *_kernel(route, prepared, rows, backward=False),
        ]
    except (TooLarge, KeyError):
        return None
    return Forward(struct.pack(f"={FORWARD}q", *words), tuple(constants))


def backward_plan(
    routes: Routes, route: Route, prepared: Prepared, operands: Operands,
    gradients: Sequence[Tensor], needed: Sequence[bool],
) -> bytes | None:  # fmt: skip
    """The plan of backward calls like this one, or `None`."""
    pinned = _is_pinned(route, prepared)
    like = {place.operand for place in prepared.results}
    rows = []
    for number, (name, tensor) in enumerate(zip(route.operands, operands)):
        sizes, _, strides = route.likes[number]
        if tensor is not None:
            sizes, strides = tensor.shape, tensor.stride()
        lies = layout_of(
            sizes, strides, first=number == 0, narrow=number > 0 and name not in routes.wide,
            like=number in like, pinned=pinned,
        )  # fmt: skip
        rows.append(replace(lies, **_looks(tensor)))
    for gradient, place in zip(gradients, route.prepared.results):
        lies = layout_of(
            gradient.shape, gradient.stride(), first=False, narrow=not place.wide, like=False,
            pinned=pinned,
        )  # fmt: skip
        rows.append(replace(lies, **_looks(gradient)))
    try:
        words = [
            bits(number for number, need in enumerate(needed) if need),
            *table([row.words() for row in rows], layouts.MAX_TENSORS, Layout.WIDTH),
            *_kernel(route, prepared, rows, backward=True),
        ]
    except (TooLarge, KeyError):
        return None
    return struct.pack(f"={BACKWARD}q", *words)


def _is_pinned(route: Route, prepared: Prepared) -> bool:
    """Whether something was decided by lengths in a way that guards cannot express.

    That is a matrix that was made for them, a number of parts that is itself a length, or results
    that do not fit into the caches.
    """
    parts = [by for factors in route.table.divisible.values() for by in factors]
    return (
        bool(route.table.matrices)
        or prepared.large
        or any(isinstance(by, str) and by in prepared.spans for by in parts)
    )


def _looks(tensor: Tensor | None) -> dict[str, Any]:
    """What a `Layout` has of a tensor beside how it lies."""
    return {} if tensor is None else {"keys": dispatch_keys(tensor), "dtype": tensor.dtype}


def _arguments(
    routes: Routes, prepared: Prepared, args: Sequence[Any], constants: list[Any]
) -> list[list[int]]:
    """An `Argument` for each of these. Raises `TooLarge` for what a plan cannot hold."""
    given = dict(zip(routes.names, args))
    counted = [name for name in routes.indices if given[name] is not None]
    sizes = {f"{name}_size" for name in counted}.intersection(given)
    rows = []
    for (name, value), is_momentum in zip(given.items(), routes.momentum_arguments):
        if is_momentum:
            rows.append([MOMENTUM, 0, 0, -1, 0])
        elif name in counted:
            size = f"{name}_size"
            place = routes.names.index(size) if size in sizes else -1
            rows.append([INDEX, 0, place, *_rows_of_table(routes.table.tables.get(name), prepared)])
        elif isinstance(value, Tensor):
            rows.append([OPERAND, 0, 0, -1, 0])
        elif name in sizes:
            rows.append([NUMBER_OF_GROUPS, 0, 0, -1, 0])
        else:
            constants.append(_constant(value))
            rows.append([CONSTANT, id(constants[-1]), 0, -1, 0])
    return rows


def _rows_of_table(dim: str | None, prepared: Prepared) -> tuple[int, int]:
    """The operand, and the dimension of it, that tells how many rows an index can choose; -1
    where it chooses none. Raises `TooLarge` where no operand tells."""
    if dim is None:
        return -1, 0
    spans = prepared.spans.get(dim)
    if not spans:
        raise TooLarge
    return spans[0].tensor, spans[0].first


def _constant(value: Any) -> Any:
    """The value, of a type that can be compared in C; of a list, as it is now."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_constant, value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TooLarge


def _kernel(
    route: Route, prepared: Prepared, rows: Sequence[Layout], *, backward: bool
) -> list[int]:
    """A `Kernel`; `rows` are the layouts of its tensors."""
    name = kernel_name(route.function.__name__, backward=backward)
    raw = prepared.pack(*prepared.template)
    words = struct.unpack(f"={len(raw) // 8}q", raw)
    name_of_kernel = _names.setdefault(name, ctypes.c_char_p(name.encode()))
    saves = prepared.kept_at and hasattr(prepared.library, "kept")
    if len(rows) + len(prepared.results) > layouts.MAX_TENSORS:
        raise TooLarge
    return [
        _address(prepared.function),
        _address(prepared.library.kept) if saves else 0,
        ctypes.cast(name_of_kernel, ctypes.c_void_p).value or 0,
        DTYPES[prepared.real], prepared.real.itemsize,
        len(words), *layouts.padded(words, layouts.MAX_WORDS),
        *table(_fills(prepared, len(rows)), layouts.MAX_FILLS, 5),
        *table(_guards(route, prepared, rows), layouts.MAX_GUARDS, layouts.GUARD),
        *table(
            [layouts.result(place, rows[place.operand]) for place in prepared.results],
            layouts.MAX_TENSORS, layouts.RESULT,
        ),
    ]  # fmt: skip


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _fills(prepared: Prepared, tensors: int) -> list[list[int]]:
    """A `Fill` for each word that is another one in another call."""
    rows = [[m.at, FILLS[m.kind], *layouts.words_of(m.span)] for m in prepared.measures]
    rows += [[at, FILL_POINTER, number, 0, 0] for at, number in prepared.pointers]
    rows += [[p.at, FILL_POINTER, tensors + n, 0, 0] for n, p in enumerate(prepared.results)]
    rows += [[at, FILL_MOMENTUM, number, 0, 0] for number, at in enumerate(prepared.momenta)]
    if prepared.kept_at:
        rows.append([prepared.kept_at, FILL_SAVED, 0, 0, 0])
    return rows


def _guards(route: Route, prepared: Prepared, rows: Sequence[Layout]) -> list[list[int]]:
    """A `Guard` for each decision that other lengths could change."""
    spans = prepared.spans
    found = []
    for of_one_dimension in spans.values():
        first, *others = of_one_dimension
        found += [guard(EQUAL, (first, other)) for other in others]
    for dim, factors in route.table.divisible.items():
        parts = [route.arguments[by] if isinstance(by, str) else by for by in factors]
        found += [guard(DIVISIBLE, (spans[dim][0],), prod(parts))]
    for dim, length in route.table.lengths.items():
        declared = route.arguments.get(length) if isinstance(length, str) else length
        if isinstance(declared, int) and dim in spans:
            found.append(guard(EXACTLY, (spans[dim][0],), declared))
    for dims in route.table.cells[route.arm]:
        cells = [spans[dim][0] for dim in dims if dim in spans]
        found += [guard(FEW, cells, MANY)]
    if not prepared.large:
        largest = last_level_cache() // (2 * prepared.real.itemsize)
        wide = {0, *(m.span.tensor for m in prepared.measures if m.kind == "stride")}
        found += [
            guard(AT_MOST, (Span(number, 0, len(rows[number].sizes)),), largest)
            for number in sorted(wide)
            if number < len(rows) and rows[number].dtype == prepared.real
        ]
    return found
