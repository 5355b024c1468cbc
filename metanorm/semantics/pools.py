"""Pools: `over C: blocks(g), *S where m weight w` to an aggregation."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.axes import AxisTwice
from metanorm.diagnostics.pools import CoversNothing
from metanorm.diagnostics.statistics import BadOption
from metanorm.diagnostics.syntax import GivenTwice
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import Aggregation, Grouping, Neighbours
from metanorm.ir.nodes import Ref
from metanorm.semantics.groupings import GroupingLowering
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import Tensor
from metanorm.source import Span
from metanorm.syntax import ast


@dataclass(frozen=True)
class LoweredPool:
    """A pool whose axes, groupings, mask and weights are resolved."""

    over: Aggregation
    span: Span
    where: Ref | None = None
    weight: Ref | None = None
    tracked: ast.Tracked | None = None
    keywords: tuple[ast.Keyword, ...] = ()

    @property
    def is_unweighted(self) -> bool:
        """Whether every element counts as one."""
        return self.where is None and self.weight is None

    @property
    def may_be_empty(self) -> bool:
        """Whether a pool may be empty: because of a mask, or at a node without neighbours."""
        return not self.is_unweighted or any(
            isinstance(m, Neighbours) and not m.loop for _, m in self.over
        )


class PoolLowering:
    """Lowers the pools of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.groupings = GroupingLowering(low, scope)

    def resolve(
        self,
        ref: ast.AxisRef,
        quiet: bool = False,
        alone: bool = False,
        is_measured: bool = False,
    ) -> tuple[str, ...] | None:
        """The axes of the program that an axis of this norm stands for.

        `None` for an axis that does not exist; then reports it, unless `quiet`.
        """
        if quiet and ref.name not in (self.scope.axes or self.low.table.declared):
            return None
        if self.scope.axes is None:
            return self.low.table.resolve(ref, alone, is_measured)
        if ref.name not in self.scope.axes:
            self.low.table.report_unknown(ref)
            return None
        return self.scope.axes[ref.name]

    def aggregation(self, pool: ast.Pool, value: Tensor | None) -> Aggregation | None:
        """The aggregation of a pool; `None` after a report."""
        if not pool.axes:
            named = tuple(k.name for k in pool.keywords if k.name in self.low.table.declared)
            shown = tuple(self.low.table.shown(name) for name in named)
            self.problems.add(CoversNothing(pool.span, "", shown))
            return None
        ok = self.low.table.are_distinct([axis.axis for axis in pool.axes])
        over: list[tuple[str, Grouping]] = []
        span_by_axis: dict[str, Span] = {}
        for item in pool.axes:
            axes = self.resolve(item.axis)
            matrix = self.groupings.grouping(item, axes) if axes is not None else None
            if axes is None or matrix is None or not self._check_covers(item, axes, value):
                ok = False
                continue
            repeated = next((axis for axis in axes if axis in span_by_axis), None)
            if repeated is not None:  # an axis, and a part of it
                self.problems.add(AxisTwice(item.span, repeated, span_by_axis[repeated]))
                ok = False
                continue
            span_by_axis |= dict.fromkeys(axes, item.span)
            over += [(axis, matrix) for axis in axes]
        if ok and not over and pool.axes:  # a called norm may have no axes for a group
            ok = self._report_covers_nothing(pool.axes[0], value)
        if not ok:
            return None
        space = self.low.table.space
        order = space.ordered(axis for axis, _ in over)
        return tuple(sorted(over, key=lambda pair: order.index(pair[0])))

    def _check_covers(
        self, item: ast.PoolAxis, axes: tuple[str, ...], value: Tensor | None
    ) -> bool:
        if value is None:
            return True
        bases = {self.low.table.space.base(a) for a in value.type.axes}
        if all(axis in bases for axis in axes):
            return True
        return self._report_covers_nothing(item, value)

    def _report_covers_nothing(self, item: ast.PoolAxis, value: Tensor | None) -> bool:
        dims = self.low.dims(value.type.axes) if value is not None else ()
        shown = tuple(self.low.table.shown(a) for a in dims if "/" not in a)
        self.problems.add(CoversNothing(item.span, item.axis.name, shown))
        return False

    def condition(self, value: object, expr: ast.Expr) -> Ref | None:
        """The value of a `where` or `weight`: a number or a condition; `None` after a report."""
        if isinstance(value, Tensor) and value.type.kind != "int":
            return value.ref
        if isinstance(value, Tensor):
            hint = "positions with equal values are pooled by `over N: label`"
            self.problems.add(WrongKind(expr.span, "an index", "a condition or weights", hint))
        return None

    def options(
        self, pool: LoweredPool, function: str, allowed: tuple[str, ...], tracks: bool = False
    ) -> dict[str, ast.Keyword]:
        """The named options of a statistic. Reports those that it does not take."""
        options: dict[str, ast.Keyword] = {}
        for keyword in pool.keywords:
            if keyword.name not in allowed:
                used_names = tuple(k.name for k in pool.keywords)
                problem = BadOption(
                    keyword.span, keyword.name, function, candidates=allowed, passed=used_names
                )
                self.problems.add(problem)
            elif keyword.name in options:
                self.problems.add(GivenTwice(keyword.span, keyword.name))
            else:
                options[keyword.name] = keyword
        if pool.tracked is not None and not tracks:
            hint = "statistics can be tracked, and `moments` and `normalize`"
            self.problems.add(BadOption(pool.tracked.span, "track", function, hint=hint))
        return options
