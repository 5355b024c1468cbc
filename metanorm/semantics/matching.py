"""Which axes of a value the dimensions of a called norm's input stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.semantics.axes import AxisTable
from metanorm.syntax import ast

Axes = tuple[str, ...]


class Matching:
    """Matches one input with one value.

    An axis that an earlier input stands for stays the same; then names decide, and order only
    between what is left on both sides. `names` has the axes of the program behind each name of
    the caller, `known` those behind each name of the called norm that has met one already.
    """

    def __init__(
        self,
        table: AxisTable,
        axes: Sequence[str],
        names: Mapping[str, Axes],
        known: Mapping[str, Axes],
    ) -> None:
        self.table = table
        self.left = list(axes)
        self.names, self.known = names, known
        self.matched: dict[str, Axes] = {}

    def matched_dims(self, dims: Sequence[ast.Dim]) -> dict[str, Axes] | None:
        """The axes behind each dimension; `None` where they do not fit."""
        if any(self.table.space[axis].cells_of for axis in self.left):
            return None
        for among in (self.known, self.names):
            for dim in dims:
                if dim.axis.name not in self.matched and dim.axis.name in among:
                    self._take(dim, among[dim.axis.name])
        fits = self._in_order([dim for dim in dims if dim.axis.name not in self.matched])
        return self.matched if fits else None

    def _take(self, dim: ast.Dim, leaves: Axes) -> None:
        if set(leaves) <= set(self.left) and self._is_one_kind(dim, leaves):
            self.matched[dim.axis.name] = leaves
            self.left = [axis for axis in self.left if axis not in leaves]

    def _is_one_kind(self, dim: ast.Dim, leaves: Axes) -> bool:
        """Whether a single dimension would get a single axis; `*D` takes any number."""
        whole = self.table.space.unsplit(leaves)
        single = len(whole) == 1 and not self.table.space[whole[0]].variadic
        return dim.axis.variadic or single

    def _in_order(self, dims: Sequence[ast.Dim]) -> bool:
        """Match what names have not matched; `*S` takes what is left over."""
        axes = list(self.table.space.unsplit(self.left))
        groups = [dim for dim in dims if dim.axis.variadic]
        spare = len(axes) - (len(dims) - len(groups))
        if len(groups) > 1 or spare < 0 or (spare and not groups):
            return False
        for dim in dims:
            take = spare if dim.axis.variadic else 1
            taken, axes = axes[:take], axes[take:]
            leaves = tuple(leaf for axis in taken for leaf in self.table.space.leaves(axis))
            if not self._is_one_kind(dim, leaves):
                return False
            self.matched[dim.axis.name] = leaves
        return True
