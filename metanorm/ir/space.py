"""The axes of a program and their algebra: join, cells, and what is constant along what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.aggregation import PARTITIONS, Aggregation, Grouping, Ones, grouping_text, refines
from metanorm.ir.nodes import Axis
from metanorm.ir.scalar import SizeOf
from metanorm.ir.scalar import leaves as leaves_of

Axes = tuple[str, ...]


class Space:
    """The axes of one program, in order; cell axes are entered when first asked for."""

    def __init__(self, axes: Iterable[Axis]) -> None:
        self._axes: dict[str, Axis] = {}
        self._rank: dict[str, tuple[int, ...]] = {}  # parts stand where the whole stands
        self._joins: dict[tuple[Axes, ...], Axes] = {}  # asked for at every node of every pass
        for axis in axes:
            self.add(axis)

    def __getitem__(self, name: str) -> Axis:
        return self._axes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._axes

    def __iter__(self) -> Iterator[Axis]:
        """All axes: each followed by its cells."""
        return iter(sorted(self._axes.values(), key=lambda axis: self._place(axis.name)))

    def add(self, axis: Axis) -> None:
        """Enter an axis, or replace the one of that name."""
        self._joins.clear()
        self._rank.setdefault(axis.name, (len(self._rank),))
        self._axes[axis.name] = axis
        for number, part in enumerate(axis.parts):
            self._rank[part] = (*self._rank[axis.name], number)

    def _place(self, name: str) -> tuple[tuple[int, ...], int, str]:
        base = self.base(name)
        return (self._rank[base], base != name, name)

    def is_fixed(self, name: str) -> bool:
        """Whether the length of an axis is known when the module is made: that of a part may follow
        from a whole whose length only a call tells."""
        size = self._axes[name].size
        wholes = (leaf.axis for leaf in leaves_of(size) if isinstance(leaf, SizeOf)) if size else ()
        return size is not None and all(self.is_fixed(whole) for whole in wholes)

    def base(self, name: str) -> str:
        """The axis whose parts `name` enumerates; the axis itself where it is no cell axis."""
        cells_of = self._axes[name].cells_of
        return cells_of[0] if cells_of else name

    def leaves(self, name: str) -> Axes:
        """The axis, or what it is split into."""
        parts = self._axes[name].parts
        return tuple(leaf for part in parts for leaf in self.leaves(part)) if parts else (name,)

    def merged(self, names: Iterable[str]) -> Axes:
        """The same axes, with a split axis where all of its parts are there."""
        merged = list(names)
        for axis in self:
            leaves = self.leaves(axis.name)
            if axis.parts and all(leaf in merged for leaf in leaves):
                merged[merged.index(leaves[0])] = axis.name
                merged = [name for name in merged if name not in leaves]
        return tuple(merged)

    def ordered(self, names: Iterable[str]) -> Axes:
        """Names in the order of the program, each once."""
        return tuple(sorted(set(names), key=self._place))

    def join(self, *many: Axes) -> Axes:
        """The axes of values combined elementwise: an axis absorbs its cells."""
        joined = self._joins.get(many)
        if joined is None:
            joined = self._joins[many] = self._join(many)
        return joined

    def _join(self, many: tuple[Axes, ...]) -> Axes:
        names = {name for axes in many for name in axes}
        by_base: dict[str, set[str]] = {}
        for name in names:
            by_base.setdefault(self.base(name), set()).add(name)
        return self.ordered(
            base if base in found or len(found) > 1 else next(iter(found))
            for base, found in by_base.items()
        )

    def cells(self, name: str, matrix: Grouping) -> str:
        """The axis that enumerates the parts of a partition of `name`."""
        cell = f"{name}/{grouping_text(matrix)}"
        if cell not in self._axes:
            self.add(Axis(cell, cells_of=(name, matrix)))
        return cell

    def pooled(self, axes: Axes, over: Aggregation) -> Axes:
        """The axes of a statistic of a value on `axes`.

        A pool may name a cell axis itself: then every cell counts the same.
        """
        matrices = dict(over)
        left: list[str] = []
        for name in axes:
            matrix = matrices.get(name) or matrices.get(self.base(name))
            if matrix is None:
                left.append(name)
            elif isinstance(matrix, PARTITIONS):
                left.append(self.cells(self.base(name), matrix))
            elif not isinstance(matrix, Ones):
                left.append(self.base(name))
        return self.ordered(left)

    def is_constant(self, axes: Axes, axis: str, matrix: Grouping) -> bool:
        """Whether a value on `axes` is the same throughout each pool of `matrix` on `axis`."""
        for name in axes:
            if self.base(name) == axis:
                cells_of = self._axes[name].cells_of
                return cells_of is not None and refines(matrix, cells_of[1])
        return True
