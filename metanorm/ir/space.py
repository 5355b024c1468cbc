"""The axes of a program and their algebra: joins, cells, and which values are constant where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.aggregation import PARTITIONS, Aggregation, Grouping, Ones, grouping_text, refines
from metanorm.ir.nodes import Axis
from metanorm.ir.scalar import Scalar, SizeOf
from metanorm.ir.scalar import leaves as leaves_of

Axes = tuple[str, ...]


def cell_name(axis: str, grouping: Grouping) -> str:
    """The name of the axis that enumerates the cells of a partition of `axis`."""
    return f"{axis}/{grouping_text(grouping)}"


class Space:
    """The axes of one program, in order. A cell axis is added when it is first needed."""

    def __init__(self, axes: Iterable[Axis]) -> None:
        self._axes: dict[str, Axis] = {}
        self._rank: dict[str, tuple[int, ...]] = {}  # parts sort where the whole axis does
        self._joins: dict[tuple[Axes, ...], Axes] = {}  # a cache: every node of every pass asks
        for axis in axes:
            self.add(axis)

    def __getitem__(self, name: str) -> Axis:
        return self._axes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._axes

    def __iter__(self) -> Iterator[Axis]:
        """All axes, each followed by its cell axes."""
        return iter(sorted(self._axes.values(), key=lambda axis: self._sort_key(axis.name)))

    def add(self, axis: Axis) -> None:
        """Add an axis, or replace the one of that name."""
        self._joins.clear()
        self._rank.setdefault(axis.name, (len(self._rank),))
        self._axes[axis.name] = axis
        for position, part in enumerate(axis.parts):
            self._rank[part] = (*self._rank[axis.name], position)
        if axis.piece_of is not None:  # pieces sort behind the whole axis
            self._rank[axis.name] = (*self._rank[axis.piece_of[0]], len(self._rank))

    def _sort_key(self, name: str) -> tuple[tuple[int, ...], int, str]:
        base = self.base(name)
        return (self._rank[base], base != name, name)

    def is_fixed(self, name: str) -> bool:
        """Whether the constructor knows the length of an axis.

        The length of a part may follow from an axis whose length only a call tells.
        """
        size = self._axes[name].size
        source_axes = (
            (leaf.axis for leaf in leaves_of(size) if isinstance(leaf, SizeOf)) if size else ()
        )
        return size is not None and all(self.is_fixed(source) for source in source_axes)

    def base(self, name: str) -> str:
        """The axis whose cells `name` enumerates; the axis itself if it is no cell axis."""
        cells_of = self._axes[name].cells_of
        return cells_of[0] if cells_of else name

    def cut(self, run: str) -> tuple[str, Scalar]:
        """The axis that a run of positions is cut out of, and the first of these positions."""
        piece_of = self._axes[run].piece_of
        assert piece_of is not None, f"{run} is no run of positions"
        return piece_of

    def leaves(self, name: str) -> Axes:
        """The leaves of an axis: the axis, or the parts that it is split into."""
        parts = self._axes[name].parts
        return tuple(leaf for part in parts for leaf in self.leaves(part)) if parts else (name,)

    def unsplit(self, names: Iterable[str]) -> Axes:
        """The same axes, with a split axis in place of all of its parts."""
        unsplit = list(names)
        for axis in self:
            leaves = self.leaves(axis.name)
            if axis.parts and all(leaf in unsplit for leaf in leaves):
                unsplit[unsplit.index(leaves[0])] = axis.name
                unsplit = [name for name in unsplit if name not in leaves]
        return tuple(unsplit)

    def ordered(self, names: Iterable[str]) -> Axes:
        """The names in the order of the program, each once."""
        return tuple(sorted(set(names), key=self._sort_key))

    def join(self, *axis_lists: Axes) -> Axes:
        """The axes of an elementwise result, from those of the operands. An axis absorbs cells."""
        joined = self._joins.get(axis_lists)
        if joined is None:
            joined = self._joins[axis_lists] = self._join(axis_lists)
        return joined

    def _join(self, axis_lists: tuple[Axes, ...]) -> Axes:
        names = {name for axes in axis_lists for name in axes}
        by_base: dict[str, set[str]] = {}
        for name in names:
            by_base.setdefault(self.base(name), set()).add(name)
        return self.ordered(
            base if base in same_base or len(same_base) > 1 else next(iter(same_base))
            for base, same_base in by_base.items()
        )

    def cell_axis(self, name: str, grouping: Grouping) -> str:
        """The axis that enumerates the cells of a partition of `name`."""
        cell = cell_name(name, grouping)
        if cell not in self._axes:
            self.add(Axis(cell, cells_of=(name, grouping)))
        return cell

    def pooled_axes(self, axes: Axes, over: Aggregation) -> Axes:
        """The axes of a statistic of a value on `axes`.

        A pool may name a cell axis: then every cell counts once.
        """
        groupings = dict(over)
        remaining: list[str] = []
        for name in axes:
            grouping = groupings.get(name) or groupings.get(self.base(name))
            if grouping is None:
                remaining.append(name)
            elif isinstance(grouping, PARTITIONS):
                remaining.append(self.cell_axis(self.base(name), grouping))
            elif not isinstance(grouping, Ones):
                remaining.append(self.base(name))
        return self.ordered(remaining)

    def is_constant(self, axes: Axes, axis: str, grouping: Grouping) -> bool:
        """Whether a value on `axes` is constant in each pool of a grouping of `axis`.

        `axis` may enumerate cells: a value that has it varies along it.
        """
        for name in axes:
            if self.base(name) == self.base(axis):
                cells_of = self._axes[name].cells_of
                return cells_of is not None and refines(grouping, cells_of[1])
        return True
