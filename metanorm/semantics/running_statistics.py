"""Lowering of running statistics: their buffers, updates and momenta."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.statistics import BadOption, CannotTrack
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import ByIndex, Ones
from metanorm.ir.nodes import Buffer, Count, Init, Mode, Pool, Ref, Rename
from metanorm.ir.ops import STATISTICS
from metanorm.ir.program import BufferDecl, Switch, Update
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.draws import check_identity, initial_from_ast
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.pools import LoweredPool
from metanorm.semantics.reserved import check_name
from metanorm.semantics.scalars import is_none, scalar_or_none
from metanorm.semantics.values import Tensor
from metanorm.source import Span
from metanorm.syntax import ast

# Running statistics that norms divide by begin with one, others with zero.
DIVISORS = frozenset({"var", "std", "rms", "max", "l1", "l2"})
assert STATISTICS.keys() >= DIVISORS, DIVISORS - STATISTICS.keys()
FULL_STEP = Const(1.0)  # the momentum of an update whose value is a step already


class RunningStatistics:
    """Tracks the statistics of one norm that say `track`."""

    def __init__(
        self, low: Lowering, scope: CallScope, number: Callable[[ast.Expr], Tensor | None]
    ) -> None:
        self.low = low
        self.scope = scope
        self.number = number

    def track(
        self,
        live: Tensor,
        moment: str,
        x: Tensor,
        pool: LoweredPool,
        biased: bool = False,
        name: str = "",
    ) -> Tensor:
        """The statistic in training mode, and its running statistic in evaluation."""
        tracked = pool.tracked
        if tracked is None:
            return live
        self.scope.switched.add("track")
        if self.scope.leaves_out("track", tracked.off):
            return live
        momentum = self._momentum(tracked)
        if isinstance(momentum, bool) or not self._can_track(tracked.span):
            return live
        buffer_name = self._buffer_name(moment, live, x, pool, momentum)
        # With a computed momentum, the update value is a step already: it replaces the old value.
        computed_momentum, scalar_momentum = (
            (momentum, FULL_STEP) if isinstance(momentum, Tensor) else (None, momentum)
        )
        if buffer_name in self.low.running_statistics:
            return self.low.running_statistics[buffer_name]
        buffer_axes = self._buffer_axes(live, tracked.span)
        dims = self.low.dims(buffer_axes)
        decl = BufferDecl(
            buffer_name, dims, self._initial_value(moment, tracked, dims), tracked=True
        )
        self.low.buffers.append(decl)
        old_value = self.low.emit(Buffer(buffer_name), pool.span, buffer_name)
        buffer = self._as_cells(old_value, live, pool.span)
        value = self._update_value(live, buffer, pool, f"%new_{moment}", biased)
        if computed_momentum is not None:
            value = self._stepped(old_value, value, computed_momentum, pool.span)
        of_samples = self._is_of_samples(live, buffer_axes)
        update = Update(buffer_name, value, scalar_momentum, averages=True, of_samples=of_samples)
        self.low.updates.append(update)
        self._add_switch(tracked)
        mode = self.low.emit(Mode(live.ref, buffer.ref, buffer_name), pool.span, name)
        self.low.running_statistics[buffer_name] = mode
        return mode

    def _stepped(self, before: Tensor, new: Ref, rate: Tensor, span: Span) -> Ref:
        """The old value of a running statistic, moved towards a new one by a computed momentum."""
        step = self.low.map("sub", Tensor(new, self.low.types[new]), before, span=span)
        scaled = self.low.map("mul", rate, step, span=span)
        return self.low.map("add", before, scaled, span=span).ref

    def _initial_value(self, moment: str, tracked: ast.Tracked, dims: tuple[str, ...]) -> Init:
        """The initial value of a running statistic."""
        default = Const(float(moment in DIVISORS))
        if tracked.initial is None:
            return default
        what = "what a running statistic begins with"
        init = initial_from_ast(tracked.initial, self.scope, self.low, what)
        span = tracked.initial.span
        checked = (
            None if init is None else check_identity(init, dims, "a statistic", span, self.low)
        )
        return default if checked is None else checked

    def report_shared_initial(self, pool: LoweredPool) -> None:
        """Report an initial value for `moments`: mean and variance cannot share one."""
        if pool.tracked is not None and pool.tracked.initial is not None:
            hint = "track them apart: `mean(... track m from 0)` and `var(... track m from 1)`"
            reason = "mean and variance begin with values of their own"
            problem = BadOption(pool.tracked.initial.span, "from", "moments", reason, hint=hint)
            self.low.problems.add(problem)

    def _momentum(self, tracked: ast.Tracked) -> Scalar | Tensor | bool | None:
        """The weight of the new value; `None` for the average of all; `False` after a report."""
        if is_none(tracked.momentum):
            return None
        # The length of an axis is a value: it may differ from call to call.
        if not any(_is_size(node) for node in nodes_in(tracked.momentum)):
            scalar = scalar_or_none(tracked.momentum, self.scope, self.low)
            if scalar is not None:
                return scalar
        momentum = self.number(tracked.momentum)
        if momentum is not None and momentum.type.axes:
            axis = self.low.table.shown(self.low.dims(momentum.type.axes)[0].partition("/")[0])
            hint = f"pool it away: `mean(... over {axis})`"
            actual = f"one with axis `{axis}`"
            problem = WrongKind(tracked.momentum.span, actual, "a single number", hint)
            self.low.problems.add(problem)
            return False
        return False if momentum is None else momentum

    def _can_track(self, span: Span) -> bool:
        target, reason, hint = self.low.target, "", "remove `track`"
        if target != "activation":
            reason = f"this is a norm for a {target}"
            hint = "remove `track`; a buffer keeps a moving average: `update v = ...`"
        elif self.low.is_entry:
            reason = "an entry keeps nothing: track in the norm, and hand the statistic on"
        elif self.low.in_loop:
            reason = "a step of `repeat` keeps nothing: track before the loop, or behind it"
        if reason:
            self.low.problems.add(CannotTrack(span, reason, hint))
        return not reason

    def _buffer_name(
        self,
        moment: str,
        live: Tensor,
        x: Tensor,
        pool: LoweredPool,
        momentum: Scalar | Tensor | None,
    ) -> str:
        """`running_mean` for the statistic that is tracked first, else with its value's name, or
        `source_mean` where the spec says `into source`.

        Statistics of one value over one pool share a prefix, and a buffer where they are the same,
        however often the spec writes either.
        """
        first_equal = self.low.first_equal
        mask, weight = (r and first_equal[r] for r in (pool.where, pool.weight))
        initial = pool.tracked.initial if pool.tracked is not None else None
        momentum_key = first_equal[momentum.ref] if isinstance(momentum, Tensor) else momentum
        group: tuple[object, ...] = (
            first_equal[x.ref],
            pool.over,
            mask,
            weight,
            momentum_key,
            initial,
        )
        statistic = (*group, first_equal[live.ref])
        into = pool.tracked.into if pool.tracked is not None else None
        if into is not None:
            check_name(into, self.low.problems, attribute=True)
            name = f"{self.scope.prefix}{into.name}_{moment}"
        else:
            name = f"{self._prefix((*group, self.scope.prefix))}running_{moment}"
            if self.low.tracked_by_name.get(name, statistic) != statistic:
                # Another statistic of the same value and pool has the name, such as a quantile.
                name = f"{self._prefix((*statistic, self.scope.prefix))}running_{moment}"
        if self.low.tracked_by_name.setdefault(name, statistic) != statistic:
            span = pool.span if into is None else into.span
            self.low.problems.add(DuplicateName(span, name, None))
        return name

    def _prefix(self, group: tuple[object, ...]) -> str:
        """The prefix of a group of tracked statistics: none for the first one."""
        groups = self.low.tracked_prefixes
        return groups.setdefault(group, self.scope.prefix if not groups else self._group_prefix())

    def _group_prefix(self) -> str:
        prefix = f"{self.scope.prefix}{self.scope.let_name or 'second'}_"
        return (
            prefix
            if prefix not in self.low.tracked_prefixes.values()
            else f"{prefix}{len(self.low.tracked_prefixes)}_"
        )

    def _buffer_axes(self, live: Tensor, span: Span) -> tuple[str, ...]:
        """The axes of the buffer: those of fixed length, but never the axis of samples."""
        table, axes = self.low.table, []
        table_by_cells = self._table_by_cells(live)
        for axis in live.type.axes:
            if axis in table_by_cells:
                axes.append(table_by_cells[axis])
                continue
            base = table.space.base(axis)
            is_fixed = table.space[base].size is not None
            if is_fixed or (base not in self.low.samples and not table.declared[base].free):
                if base in table.declared:
                    table.require_fixed(base, "a running statistic", span)
                axes.append(base)
        for axis, _ in self._averaged_axes(live, tuple(axes)):
            if axis in table.declared:
                table.keep_free(axis, "is averaged over by running statistics")
        return tuple(dict.fromkeys(axes))

    def _averaged_axes(
        self, live: Tensor, buffer_axes: tuple[str, ...]
    ) -> tuple[tuple[str, Ones], ...]:
        space, table_by_cells = self.low.table.space, self._table_by_cells(live)
        candidates = (a for a in live.type.axes if a not in table_by_cells)
        return tuple((a, Ones()) for a in candidates if space.base(a) not in buffer_axes)

    def _is_of_samples(self, live: Tensor, buffer_axes: tuple[str, ...]) -> bool:
        """Whether there is a statistic for each sample, or for each graph if graphs are samples."""
        samples, space = self.low.samples, self.low.table.space
        for axis, _ in self._averaged_axes(live, buffer_axes):
            cells_of = space[axis].cells_of
            if axis in samples or (
                cells_of and cells_of[0] in samples and isinstance(cells_of[1], ByIndex)
            ):
                return True
        return False

    def _table_by_cells(self, live: Tensor) -> dict[str, str]:
        """The table axis of each cell axis of an index with a table.

        With `label: index[N] of K = 10`, running statistics over `N: label` are kept per label.
        """
        space, table_by_cells = self.low.table.space, {}
        table_of = {i.name: i.table for i in self.low.inputs}
        for axis in live.type.axes:
            cells_of = space[axis].cells_of
            if cells_of is not None and isinstance(cells_of[1], ByIndex):
                table = table_of[cells_of[1].index]
                if table is not None and table not in live.type.axes:
                    table_by_cells[axis] = table
        return table_by_cells

    def _as_cells(self, buffer: Tensor, live: Tensor, span: Span) -> Tensor:
        """A buffer with rows of a table, as a value of the cells of the index."""
        for cells, table in self._table_by_cells(live).items():
            buffer = self.low.emit(Rename(buffer.ref, table, cells), span)
        return buffer

    def _update_value(
        self, live: Tensor, buffer: Tensor, pool: LoweredPool, name: str, biased: bool
    ) -> Ref:
        """The new value of a running statistic: unbiased, and averaged over the free axes."""
        span = pool.span
        value = live
        if biased:
            count = self.low.emit(Count(pool.over, pool.where, pool.weight), span)
            value = self.low.map("unbiased", live, count, span=span)
        if pool.may_be_empty or self._table_by_cells(live):
            # An empty pool keeps the old value, but an empty graph counts as zeros, as in PyG.
            count = self.low.emit(Count(pool.over, pool.where, pool.weight), span)
            is_filled = self.low.map("ne", count, self.low.number(0, span), span=span)
            value = self.low.map("where", is_filled, value, buffer, span=span)
        for axis in (a for a, m in pool.over if isinstance(m, Ones)):
            if axis in self.low.table.declared:
                self.low.table.keep_free(axis, "is averaged over by running statistics")
        free_axes = self._averaged_axes(value, buffer.type.axes)
        if free_axes:
            value = self.low.emit(Pool("mean", value.ref, free_axes), span, name)
        for cells, table in self._table_by_cells(live).items():
            value = self.low.emit(Rename(value.ref, cells, table), span)
        return value.ref

    def _add_switch(self, tracked: ast.Tracked) -> None:
        name = "track_running_stats"
        if name not in (s.name for s in self.low.switches):
            self.low.switches.append(Switch(name, self.scope.is_called or not tracked.off))


def _is_size(node: ast.Node) -> bool:
    return isinstance(node, ast.Call) and node.function.name == "size"
