"""Matching of the dimensions of a callee's input with the axes of a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.semantics.axes import AxisTable
from metanorm.syntax import ast

Axes = tuple[str, ...]


class Matching:
    """Matches one input with one value.

    An axis that an earlier input has bound stays bound. Then names decide, and then the order of
    the remaining dimensions and axes. `caller_axes` has the axes of the program for each axis name
    of the caller, `bound_axes` those for each axis name of the callee that is bound already.
    """

    def __init__(
        self,
        table: AxisTable,
        axes: Sequence[str],
        caller_axes: Mapping[str, Axes],
        bound_axes: Mapping[str, Axes],
    ) -> None:
        self.table = table
        self.unmatched = list(axes)
        self.caller_axes, self.bound_axes = caller_axes, bound_axes
        self.matched: dict[str, Axes] = {}

    def matched_dims(self, dims: Sequence[ast.Dim]) -> dict[str, Axes] | None:
        """The axes of each dimension; `None` if there is no match."""
        if any(self.table.space[axis].cells_of for axis in self.unmatched):
            return None
        for axes_by_name in (self.bound_axes, self.caller_axes):
            for dim in dims:
                if dim.axis.name not in self.matched and dim.axis.name in axes_by_name:
                    self._match(dim, axes_by_name[dim.axis.name])
        fits = self._match_in_order([dim for dim in dims if dim.axis.name not in self.matched])
        return self.matched if fits else None

    def _match(self, dim: ast.Dim, leaves: Axes) -> None:
        if set(leaves) <= set(self.unmatched) and self._fits_rank(dim, leaves):
            self.matched[dim.axis.name] = leaves
            self.unmatched = [axis for axis in self.unmatched if axis not in leaves]

    def _fits_rank(self, dim: ast.Dim, leaves: Axes) -> bool:
        """Whether a dimension can stand for these axes: `*D` for any, others for a single one."""
        dims = self.table.space.unsplit(leaves)
        is_single = len(dims) == 1 and not self.table.space[dims[0]].variadic
        return dim.axis.variadic or is_single

    def _match_in_order(self, dims: Sequence[ast.Dim]) -> bool:
        """Match the remaining dimensions in order; `*S` gets the axes left over."""
        axes = list(self.table.space.unsplit(self.unmatched))
        variadic_dims = [dim for dim in dims if dim.axis.variadic]
        variadic_count = len(axes) - (len(dims) - len(variadic_dims))
        if len(variadic_dims) > 1 or variadic_count < 0 or (variadic_count and not variadic_dims):
            return False
        for dim in dims:
            count = variadic_count if dim.axis.variadic else 1
            taken, axes = axes[:count], axes[count:]
            leaves = tuple(leaf for axis in taken for leaf in self.table.space.leaves(axis))
            if not self._fits_rank(dim, leaves):
                return False
            self.matched[dim.axis.name] = leaves
        return True
