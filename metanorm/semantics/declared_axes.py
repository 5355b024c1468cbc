"""The axes that declarations of inputs, parameters and buffers name, and those that they add."""

from __future__ import annotations

from metanorm.diagnostics.axes import AxisTwice
from metanorm.diagnostics.lengths import BadLength
from metanorm.semantics.lowering import UNKNOWN, CallScope, Lowering
from metanorm.semantics.pools import PoolLowering
from metanorm.syntax import ast


class DeclaredAxes:
    """Finds or adds the axes of the declarations of one norm."""

    def __init__(self, low: Lowering, scope: CallScope, pools: PoolLowering) -> None:
        self.low = low
        self.scope = scope
        self.pools = pools

    def introduce(self, dim: ast.Dim, name: str | None = None) -> str:
        """Add an axis. A hyperparameter that gives its length counts as used."""
        if isinstance(dim.size, ast.Identifier):
            self.scope.names.find(dim.size.name)
            sort = self.scope.hyper_sorts.get(dim.size.name, "int")
            if sort not in ("int", UNKNOWN):
                self.low.problems.add(BadLength(dim.size.span, dim.axis.name, dim.size.name))
        return self.low.table.introduce(dim, self.scope.hypers, name)

    def dims(self, dims: tuple[ast.Dim, ...], what: str) -> tuple[str, ...] | None:
        """The axes of a parameter or buffer; adds those that it gives a length."""
        ok = True
        resolved: list[str] = []
        for dim in dims:
            axes = self._resolve(dim, what)
            ok = ok and axes is not None
            resolved += axes or ()
        if ok and len(resolved) != 2:
            ok = self.low.table.are_distinct([dim.axis for dim in dims])
            if ok and len(set(resolved)) < len(resolved):  # an axis, and a part of it
                ok = False
                twice = next(axis for i, axis in enumerate(resolved) if axis in resolved[:i])
                first = next(d for d in dims if twice in (self.pools.resolve(d.axis) or ()))
                self.low.problems.add(AxisTwice(dims[-1].span, twice, first.span))
        return tuple(resolved) if ok else None

    def _resolve(self, dim: ast.Dim, what: str) -> tuple[str, ...] | None:
        table, name = self.low.table, dim.axis.name
        local = self.scope.axes
        if dim.size is not None and local is not None and name not in local:
            local[name] = (self.introduce(dim, self._fresh_name(name)),)
        elif dim.size is not None and local is None:
            self.introduce(dim)
        elif local is None and name not in table.declared:
            table.report_unknown(dim.axis, can_size=True)
            return None
        axes = self.pools.resolve(dim.axis)
        for axis in axes or ():
            table.require_fixed(axis, what, dim.span)
        return axes

    def _fresh_name(self, name: str) -> str:
        while name in self.low.table.declared:
            name += "_"
        return name
