"""Tensors whose dimensions have names, in plain torch: all that references need to be short.

Nothing here knows of metanorm. A pool is one matrix for each of its axes; a value that is pooled
by parts of an axis keeps the axis, and is the same throughout a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_rounding = 0.0  # relative error that every operation makes: see `rounded`


_values_of_variances: list[int] = []  # see `values_of_variances`


@contextmanager
def values_of_variances() -> Iterator[list[int]]:
    """How many values there are in the largest pool of each variance that is taken in a `with`."""
    _values_of_variances.clear()
    yield _values_of_variances


@contextmanager
def rounded(size: float) -> Iterator[None]:
    """Let every operation be wrong by about this much, to see how well conditioned a norm is."""
    global _rounding
    before, _rounding = _rounding, size
    try:
        yield
    finally:
        _rounding = before


def nearly(tensor: Tensor) -> Tensor:
    """A tensor as it comes in: itself, or a little off with `rounded`."""
    if not _rounding:
        return tensor
    return tensor * (1 + _rounding * torch.randn(tensor.shape, dtype=tensor.dtype))


@dataclass(frozen=True)
class Named:
    """A tensor and the names of its dimensions."""

    tensor: Tensor
    axes: tuple[str, ...] = ()

    def lined_up(self, axes: tuple[str, ...]) -> Tensor:
        """The tensor with these dimensions, of length 1 where it does not have an axis."""
        order = [self.axes.index(a) for a in axes if a in self.axes]
        place = iter(range(len(order)))
        tensor = self.tensor.permute(order)
        index = [slice(None) if a in self.axes and next(place) >= 0 else None for a in axes]
        return tensor[tuple(index)] if index else tensor

    def spread(self, axes: tuple[str, ...], sizes: Mapping[str, int]) -> Tensor:
        """The tensor with all of these dimensions, repeated along those that it does not have."""
        return self.lined_up(axes).expand([sizes[a] for a in axes])

    def renamed(self, old: str, new: str) -> Named:
        return Named(self.tensor, tuple(new if a == old else a for a in self.axes))

    def stopped(self) -> Named:
        return Named(self.tensor.detach(), self.axes)

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.axes, self.tensor.shape))


def number(value: float) -> Named:
    return Named(torch.tensor(value, dtype=torch.float64))


def union(*values: Named) -> tuple[str, ...]:
    return tuple(dict.fromkeys(axis for value in values for axis in value.axes))


def elementwise(function: Callable[..., Tensor], *values: Named) -> Named:
    """A function of values that combine by the names of their axes."""
    axes = union(*values)
    lined = [value.lined_up(axes) for value in values]
    result = function(*lined)
    if _rounding and result.is_floating_point():
        size = result.detach().abs()
        if function in (torch.add, torch.sub):
            size = sum(v.detach().abs() for v in lined)
        result = result + _rounding * size * torch.randn(result.shape, dtype=result.dtype)
    return Named(result, axes)


def compare(function: Callable[..., Tensor], a: Named, b: Named) -> Named:
    """A comparison as 0 and 1; what is nearly equal may fall either way with `rounded`."""
    if _rounding:
        size = _rounding * (a.tensor.detach().abs().max() if a.tensor.numel() else 0)
        a = Named(a.tensor + size * torch.randn(a.tensor.shape, dtype=torch.float64), a.axes)
    return elementwise(lambda p, q: function(p, q).to(torch.float64), a, b)


def root(x: Tensor) -> Tensor:
    """The square root, whose derivative counts as zero where it is zero."""
    positive = x > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, x, 1.0)), 0.0)


@dataclass(frozen=True)
class Pool:
    """What is pooled: a matrix [positions, positions] for each axis, `None` for all of it.

    Entries say how often a position counts; those of `given` matrices are weights, which count
    continuously, also where they are zero. `beyond` are the zeros outside of each position.
    """

    over: Mapping[str, Tensor | None]
    where: Named | None = None
    weight: Named | None = None
    beyond: Mapping[str, Tensor] | None = None  # of every axis, [positions] or [1]
    matrix_axes: frozenset[str] = frozenset()


def statistic(
    kind: str, value: Named, pool: Pool, ddof: int = 0, about: Named | None = None
) -> Named:
    """A statistic of each pool, by its definition. What weighs nothing altogether gives zero."""
    values = [v for v in (value, pool.where, pool.weight) if v is not None]
    axes = union(*values)
    sizes = {a: n for v in values for a, n in v.sizes.items()}
    kept = tuple(a for a in axes if a not in pool.over)
    names = (*kept, *pool.over, *(f"{a} counted" for a in pool.over))
    counted = {a: f"{a} counted" for a in pool.over}

    def inside(v: Named) -> Tensor:
        return Named(v.tensor, tuple(counted.get(a, a) for a in v.axes)).lined_up(names)

    x = inside(value)
    counts = torch.ones([1] * len(names), dtype=torch.float64)
    there = counts != 0
    for axis, matrix in pool.over.items():
        if matrix is None:
            matrix = torch.ones(1, sizes[axis], dtype=torch.float64)
        rows = Named(matrix.to(torch.float64), (axis, counted[axis])).lined_up(names)
        counts = counts * rows
        there = there & ((rows != 0) | (axis in pool.matrix_axes))
    if pool.where is not None:
        there = there & (inside(pool.where) != 0)
    if pool.weight is not None:
        counts = counts * inside(pool.weight)
    counts = torch.where(there, counts, 0.0)
    shape = torch.broadcast_shapes(x.shape, counts.shape)
    x = torch.where(there.expand(shape), x.expand(shape), 0.0)
    counts = counts.expand(shape)
    dims = tuple(range(len(names) - len(pool.over), len(names)))
    total = counts.sum(dims)
    extra = torch.zeros_like(total)
    if pool.beyond:
        everything = torch.ones(())
        for axis, outside in pool.beyond.items():
            matrix = pool.over[axis]
            more = outside + (sizes[axis] if matrix is None else matrix.sum(1))
            everything = everything * Named(more, (axis,)).lined_up(names[: total.dim()])
        extra = extra + everything - total
        total = total + extra
    some = total != 0

    def mean(terms: Tensor, outside: Tensor | float = 0.0) -> Tensor:
        added = (counts * terms).sum(dims) + extra * outside
        added = added + _error((counts * terms).detach().abs().sum(dims))
        return torch.where(some, added / torch.where(some, total, 1.0), 0.0)

    def deep(narrow: Tensor) -> Tensor:
        return narrow[(..., *[None] * len(dims))]

    def best(sign: float) -> Tensor:
        if 0 in shape:
            return torch.zeros_like(total)
        maxima = torch.where(counts != 0, sign * x, -torch.inf).amax(dims)
        maxima = torch.where(extra > 0, maxima.clamp(min=0.0), maxima)
        return torch.where(some, sign * torch.where(some, maxima, 0.0), 0.0)

    def variance() -> Tensor:
        if about is None:
            centre = mean(x)
            # Gaps add up to zero, so that no gradient by the centre is left, but for rounding:
            # of one value, the gap is what rounding left of it, and so is the deviation.
            centre = centre.detach() if _rounding else centre
        else:
            centre = about.lined_up((*kept, *pool.over)).expand(total.shape)
        spread = x - deep(centre)
        return mean(spread**2, centre**2)

    def added() -> Tensor:
        return (counts * x).sum(dims) + _error((counts * x).detach().abs().sum(dims))

    if kind == "count":
        result = total
    elif kind == "sum":
        result = added()
    elif kind == "mean":
        result = mean(x)
    elif kind in ("var", "std"):
        values_of_pools = there.expand(shape).sum(dims)
        _values_of_variances.append(int(values_of_pools.max()) if total.numel() else 0)
        result = variance()
        if ddof:
            result = torch.where(
                total > 1, result * total / torch.where(total > 1, total - 1, 1), result
            )
        result = root(result) if kind == "std" else result
    elif kind == "rms":
        result = root(mean(x**2))
    elif kind == "l1":
        result = (counts * x.abs()).sum(dims)
    elif kind == "l2":
        result = root((counts * x**2).sum(dims))
    else:
        result = best(1.0 if kind == "max" else -1.0)
    gone = [len(kept) + i for i, m in enumerate(pool.over.values()) if m is None]
    left = tuple(a for a in (*kept, *pool.over) if pool.over.get(a, 0) is not None)
    return Named(result.squeeze(gone) if gone else result, left)


def _error(size: Tensor) -> Tensor | float:
    return _rounding * size * torch.randn(size.shape, dtype=size.dtype) if _rounding else 0.0


# ---- how the positions of one axis are pooled


def same(labels: Tensor) -> Tensor:
    """Positions with the same label."""
    return (labels[:, None] == labels[None, :]).to(torch.float64)


def blocks(n: int, count: int) -> Tensor:
    return same(torch.arange(n) // max(n // count, 1))


def chunks(n: int, size: int) -> Tensor:
    return same(torch.arange(n) // size)


def interleave(n: int, count: int) -> Tensor:
    return same(torch.arange(n) % count)


def causal(n: int, reach: int | None = None) -> Tensor:
    back = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    return ((back >= 0) & (back < (n if reach is None else reach))).to(torch.float64)


def window(n: int, width: int, replicate: bool = False) -> tuple[Tensor, Tensor]:
    """Centred windows, an even one reaching further back; and how much of each lies outside."""
    matrix, outside = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for position in range(n):
        for at in range(position - width // 2, position - width // 2 + width):
            if 0 <= at < n:
                matrix[position, at] += 1
            elif replicate:
                matrix[position, min(max(at, 0), n - 1)] += 1
            else:
                outside[position] += 1
    return matrix, outside


def neighbours(n: int, edges: Tensor, itself: bool) -> Tensor:
    """The nodes from which edges lead to each node."""
    matrix = torch.eye(n, dtype=torch.float64) * itself
    for source, target in edges.T.tolist():
        matrix[target, source] += 1
    return matrix
