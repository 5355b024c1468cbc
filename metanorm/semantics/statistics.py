"""Lowering of statistics of a value over a pool, such as `mean`, `moments` and `normalize`."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.diagnostics.statistics import BadOption
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import PARTITIONS, Ones
from metanorm.ir.nodes import Count, Mode, Pool
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import MinimumPoolSize
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.pools import LoweredPool, PoolLowering
from metanorm.semantics.running_statistics import RunningStatistics
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.values import POISON, Moments, Tensor, Value
from metanorm.syntax import ast


class Statistics:
    """Lowers the statistics of one norm."""

    def __init__(
        self,
        low: Lowering,
        scope: CallScope,
        pools: PoolLowering,
        number: Callable[[ast.Expr], Tensor | None],
    ) -> None:
        self.low = low
        self.scope = scope
        self.pools = pools
        self.running = RunningStatistics(low, scope, number)

    def statistic(self, name: str, x: Tensor, pool: LoweredPool, about: Tensor | None) -> Value:
        """The statistic `name`, one of the operation table or `moments` or `normalize`."""
        match name:
            case "mean":
                self.pools.options(pool, name, (), tracks=True)
                return self.running.track(self._pool("mean", x, pool), "mean", x, pool)
            case "var":
                return self._var(x, pool, about)
            case "std":
                options = self.pools.options(pool, name, ("ddof",), tracks=True)
                variance = self._pool("var", x, pool, ddof=self._ddof(options))
                value = self.low.map("root", variance, span=pool.span)
                return self.running.track(value, name, x, pool)
            case "rms":
                self.pools.options(pool, name, (), tracks=True)
                zero = self.low.number(0, pool.span)
                second = self._pool("second", x, pool, about=zero)
                value = self.low.map("root", second, span=pool.span)
                return self.running.track(value, name, x, pool)
            case "median" | "quantile":
                return self._quantile(name, x, pool)
            case "moments":
                options = self.pools.options(pool, name, ("ddof",), tracks=True)
                return self._moments(x, pool, self._ddof(options))
            case "normalize":
                options = self.pools.options(pool, name, ("ddof",), tracks=True)
                return self._normalize(x, pool, self._ddof(options))
            case _:
                self.pools.options(pool, name, (), tracks=True)
                return self.running.track(self._pool(name, x, pool), name, x, pool)

    def count(self, pool: LoweredPool) -> Tensor:
        """How many elements, or how much weight, each pool holds."""
        self.pools.options(pool, "count", ())
        if pool.is_unweighted:
            self.low.counted_pools.append(dict(pool.over))
        return self.low.emit(Count(pool.over, pool.where, pool.weight), pool.span)

    # ---- parts

    def _pool(
        self,
        kind: str,
        x: Tensor,
        pool: LoweredPool,
        about: Tensor | None = None,
        ddof: int = 0,
        name: str = "",
    ) -> Tensor:
        centre = about.ref if about is not None else None
        op = Pool(kind, x.ref, pool.over, pool.where, pool.weight, centre, ddof)
        return self.low.emit(op, pool.span, name)

    def _quantile(self, name: str, x: Tensor, pool: LoweredPool) -> Value:
        """A quantile: the value at a share of the sorted values of each pool."""
        options = self.pools.options(pool, name, ("q",) if name == "quantile" else (), tracks=True)
        share: Scalar | None = Const(0.5)
        if name == "quantile" and "q" not in options:
            hint = "write `quantile(x over P, q = 0.9)`"
            reason = "`quantile` needs a share `q`"
            self.low.problems.add(BadOption(pool.span, "q", name, reason, hint=hint))
            return POISON
        if "q" in options:
            expr = options["q"].value
            share = scalar_from_ast(expr, self.scope, self.low, "the share of a `quantile`")
            if isinstance(share, Const) and not 0 <= share.value <= 1:
                hint = "the largest value is the one at `q = 1`"
                reason = "a share is between 0 and 1"
                self.low.problems.add(BadOption(expr.span, "q", name, reason, hint=hint))
                share = None
        if not all(isinstance(matrix, (Ones, RegularPartition)) for _, matrix in pool.over):
            hint = f"it pools whole axes, and blocks of them: `{name}(x over N, C: blocks(8))`"
            actual = "an index, a window or a matrix"
            self.low.problems.add(WrongKind(pool.span, actual, "whole axes or blocks", hint))
            return POISON
        if pool.weight is not None:
            hint = "it leaves elements out by `where`"
            reason = f"`{name}` does not weigh elements"
            self.low.problems.add(BadOption(pool.span, "weight", name, reason, hint=hint))
            return POISON
        if share is None:
            return POISON
        op = Pool("quantile", x.ref, pool.over, pool.where, share=share)
        return self.running.track(self.low.emit(op, pool.span), name, x, pool)

    def _ddof(self, options: dict[str, ast.Keyword]) -> int:
        keyword = options.get("ddof")
        if keyword is None:
            return 0
        if isinstance(keyword.value, ast.Number) and keyword.value.value in (0, 1):
            return int(keyword.value.value)
        hint = "write `ddof = 1` where the paper divides by n - 1"
        reason = "`ddof` is 0 or 1"
        self.low.problems.add(BadOption(keyword.value.span, "ddof", "var", reason, hint=hint))
        return 0

    def _var(self, x: Tensor, pool: LoweredPool, about: Tensor | None) -> Value:
        options = self.pools.options(pool, "var", ("ddof", "about"), tracks=True)
        if about is None:
            self._check_pool_size(pool)
            value = self._pool("var", x, pool, ddof=self._ddof(options))
            return self.running.track(value, "var", x, pool, biased=self._ddof(options) == 0)
        if "ddof" in options:
            reason = "`var` takes `ddof` or `about`, not both"
            self.low.problems.add(BadOption(options["ddof"].span, "ddof", "var", reason))
        value = self._pool("second", x, pool, about=about)
        return self.running.track(value, "var", x, pool, biased=False)

    def _moments(self, x: Tensor, pool: LoweredPool, ddof: int) -> Moments:
        """Mean and variance, with names after the `let` that they are for."""
        self.running.report_shared_initial(pool)
        self._check_pool_size(pool)
        names = {"mean": "", "var": ""}
        if self.scope.let_name:
            stem = self.scope.prefix + self.scope.let_name
            names = {moment: self.low.unique(f"{stem}_{moment}") for moment in names}
        live = names if pool.tracked is None else {"mean": "", "var": ""}
        mean = self._pool("mean", x, pool, name=live["mean"])
        var = self._pool("var", x, pool, ddof=ddof, name=live["var"])
        return Moments(
            self.running.track(mean, "mean", x, pool, name=names["mean"]),
            self.running.track(var, "var", x, pool, biased=ddof == 0, name=names["var"]),
        )

    def _normalize(self, x: Tensor, pool: LoweredPool, ddof: int) -> Tensor:
        moments = self._moments(x, pool, ddof)
        span = pool.span
        eps = self.low.number(self.scope.hypers.get("eps", Const(1e-5)), span)
        self.scope.names.find("eps")
        scale = self.low.map("sqrt", self.low.map("add", moments.var, eps, span=span), span=span)
        centred = self.low.map("sub", x, moments.mean, span=span)
        value = self.low.map("div", centred, scale, span=span)
        if not pool.may_be_empty:
            return value
        weight = self.low.emit(Count(pool.over, pool.where, pool.weight), span)
        mean_op = self.low.operation(moments.mean)
        if isinstance(mean_op, Mode):  # running statistics hold even for an empty pool
            one = self.low.number(1, span)
            weight = self.low.emit(Mode(weight.ref, one.ref, mean_op.buffer), span)
        zero = self.low.number(0, span)
        is_filled = self.low.map("ne", weight, zero, span=span)
        return self.low.map("where", is_filled, value, zero, span=span)

    def _check_pool_size(self, pool: LoweredPool) -> None:
        """Add the check against single values for pools for which torch's layers have it.

        These are pools of all positions of free axes (batch and instance norm), and of blocks of a
        fixed axis with all positions of free ones, where torch also counts the batch (group norm).
        """
        space, over = self.low.table.space, dict(pool.over)
        if not pool.is_unweighted or not all(
            isinstance(m, (Ones, *PARTITIONS)) for m in over.values()
        ):
            return
        if any(isinstance(m, Ones) and self._has_fixed_length(axis) for axis, m in over.items()):
            return
        cells = {axis: m for axis, m in over.items() if not isinstance(m, Ones)}
        if any(not self._has_fixed_length(axis) for axis in cells) or self.scope.is_called:
            return
        if cells:
            input_axes = (
                self.low.declarations().axes(self.low.inputs[0].dims) if self.low.inputs else ()
            )
            over |= {
                axis: Ones()
                for axis in input_axes
                if axis not in over and not self._has_fixed_length(axis)
            }
        ordered = tuple((axis, over[axis]) for axis in space.ordered(over))
        check = MinimumPoolSize(ordered, tracked=pool.tracked is not None)
        if check not in self.low.checks:
            self.low.checks.append(check)

    def _has_fixed_length(self, axis: str) -> bool:
        return self.low.table.space[axis].size is not None or bool(
            self.low.table.declared.get(axis) and self.low.table.declared[axis].requirements
        )
