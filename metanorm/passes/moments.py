"""Rewrite statistics of affine forms of a value as statistics of the value.

mean(a x + b) = a mean(x) + b, var(a x + b) = a^2 var(x), and a second moment about any centre is
var(x) + (mean(x) - centre)^2: GraphNorm's mean((x - s m)^2) needs no second pass over x. If
coefficients vary within a pool, the pass measures x on the largest part on which they do not, and
pools the narrow results.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, ByIndex, Dense, Neighbours, Ones, is_partition
from metanorm.ir.nodes import Count, Let, Map, Pool, Ref
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.affine import Affine, Form
from metanorm.passes.builder import Builder

SQUARES = ("mean", "sum")
MAYBE_EMPTY = (ByIndex, Neighbours, Dense)  # groupings whose pools may hold no element


def moments(program: Program) -> Program:
    """The program with every statistic of an affine form rewritten."""
    return _Moments(program).run()


class _Moments:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.affine = Affine(self.b)

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            if isinstance(op, Pool):
                self._pool(let, op)
                continue
            ref = self.b.copy(let, op)
            form = self.affine.derive(op)
            if form is not None and ref not in self.affine.forms:
                self.affine.forms[ref] = form
        return self.b.finish()

    def _pool(self, let: Let, op: Pool) -> None:
        self.b.span = let.span
        self.b.substitute(let, self._rewrite(self._with_inner_mean(op)))

    def _with_inner_mean(self, op: Pool) -> Pool:
        """A mean of sums of squares as a sum of means, if the centre varies in the inner pools."""
        inner = self.b.ops.get(op.value)
        if not (isinstance(inner, Pool) and _is_linear(op) and _is_linear(inner)):
            return op
        form = self._squared_form(inner.value)
        if (
            form is None
            or not self._is_constant(form, op.over)
            or self._is_constant(form, inner.over)
        ):
            return op
        first = self._rewrite(replace(op, value=inner.value))
        return replace(inner, value=first)

    def _rewrite(self, op: Pool) -> Ref:
        second = self._as_second_moment(op)
        if second is not None:
            return second
        form = self.affine.of(op.value)
        if op.statistic not in ("mean", "var", "second") or form.guard or not _is_unweighted(op):
            return self.b.emit(op)
        if op.statistic != "second" and (constant := self._without_constant_axes(op)) is not None:
            return constant
        if op.statistic == "second":
            return self._second_moment(op, form)
        return self.b.emit(op) if form.trivial else self._from_source(op, form)

    def _without_constant_axes(self, op: Pool) -> Ref | None:
        """A mean or variance without pooled axes that the value lacks; `None` if it has all."""
        axes = self.b.types[op.value].axes
        present = {*axes, *(self.b.space.base(axis) for axis in axes)}
        over = tuple(
            (a, m)
            for a, m in op.over
            if a in present or not isinstance(m, (Ones, RegularPartition))
        )
        if len(over) == len(op.over):
            return None
        if over:
            return self._rewrite(replace(op, over=over))
        return op.value if op.statistic == "mean" else self.b.number(0)

    # ---- squares

    def _squared_form(self, ref: Ref) -> Form | None:
        """The form of v, if a value is v * v."""
        op = self.b.ops.get(ref)
        if isinstance(op, Map) and op.function == "mul" and op.arguments[0] == op.arguments[1]:
            form = self.affine.of(op.arguments[0])
            return form if not form.trivial and not form.guard else None
        return None

    def _as_second_moment(self, op: Pool) -> Ref | None:
        """A mean or sum of squares of an affine form as a second moment about zero."""
        form = self._squared_form(op.value)
        if form is None or op.statistic not in SQUARES or not _is_unweighted(op):
            return None
        if not self._is_constant(form, op.over):
            return None
        square = self.b.ops[op.value]
        assert isinstance(square, Map)
        zero = self.b.number(0)
        mean = self._second_moment(Pool("second", square.arguments[0], op.over, about=zero), form)
        if op.statistic == "mean":
            return mean
        return self.b.map("mul", mean, self.b.emit(Count(op.over)))

    def _second_moment(self, op: Pool, form: Form) -> Ref:
        """The second moment about `about`, from the mean and the variance."""
        assert op.about is not None
        about_zero = self.b.constant_value(op.about) == 0
        only_scaled = form.centre is None and form.shift is None
        if about_zero and only_scaled and (not form.scale or self._is_constant(form, op.over)):
            raw = self.b.emit(Pool("second", form.source, op.over, about=op.about))
            return self._scaled_second(raw, form)
        over = op.over
        if about_zero and form.shift is None and self._is_centred_at_mean(form, over):
            return self._rewrite(Pool("var", op.value, over))  # a variance propagates NaN
        mean = self._rewrite(Pool("mean", op.value, over))
        var = self._rewrite(Pool("var", op.value, over))
        if mean == op.about:
            return var
        offset = mean
        if not about_zero:
            offset = self.b.map("sub", mean, op.about, name="%offset")
        moment = self.b.map("add", var, self.b.map("mul", offset, offset))
        return moment if self._is_zero_if_empty(offset, over) else self._zero_if_empty(moment, over)

    def _is_zero_if_empty(self, ref: Ref, over: Aggregation) -> bool:
        """Whether a value is known to be zero in an empty pool."""
        if not any(isinstance(m, MAYBE_EMPTY) for _, m in over):
            return True
        match self.b.ops.get(ref):
            case Pool(over=pool_over):
                return pool_over == over
            case Map("mul", arguments):
                return any(self._is_zero_if_empty(a, over) for a in arguments)
            case Map("add" | "sub", arguments):
                return all(self._is_zero_if_empty(a, over) for a in arguments)
            case _:
                return False

    def _zero_if_empty(self, value: Ref, over: Aggregation) -> Ref:
        """The value, but zero in an empty pool."""
        zero = self.b.number(0)
        is_filled = self.b.map("ne", self.b.emit(Count(over)), zero)
        return self.b.map("where", is_filled, value, zero)

    # ---- forms

    def _scaled_second(self, second: Ref, form: Form) -> Ref:
        """The second moment of a form about zero, from that of its source."""
        for factor in form.scale:
            second = self.b.map("mul", self.b.map("mul", factor, factor), second)
        return second

    def _is_centred_at_mean(self, form: Form, over: Aggregation) -> bool:
        """Whether the centre of a form is the mean of its source over the same pools."""
        centre = self.b.ops.get(form.centre) if form.centre is not None else None
        return centre == Pool("mean", form.source, over) and self._is_constant(form, over)

    def _is_constant(self, form: Form, over: Aggregation) -> bool:
        return all(is_partition(m) and self.affine.is_constant(form, axis, m) for axis, m in over)

    def _from_source(self, op: Pool, form: Form) -> Ref:
        """The mean or variance of an affine form, from those of its source."""
        inner = tuple(
            (axis, m)
            for axis, m in op.over
            if is_partition(m) and self.affine.is_constant(form, axis, m)
        )
        outer = tuple(pair for pair in op.over if pair not in inner)
        indexed = any(isinstance(m, ByIndex) for _, m in op.over)
        if not inner or (indexed and (outer or form.shift is not None)):
            return self.b.emit(op)
        at_mean = None
        if op.statistic == "mean" or outer:
            at_mean = self.affine.at(form, self.b.emit(Pool("mean", form.source, inner)))
        if op.statistic == "mean":
            assert at_mean is not None
            return self._rewrite(Pool("mean", at_mean, outer)) if outer else at_mean
        var = self.b.emit(Pool("var", form.source, inner))
        var = self._scaled_second(var, form)
        if not outer:
            return var
        assert at_mean is not None
        within = self._rewrite(Pool("mean", var, outer))
        return self.b.map("add", within, self._rewrite(Pool("var", at_mean, outer)))


def _is_unweighted(op: Pool) -> bool:
    return op.where is None and op.weight is None


def _is_linear(op: Pool) -> bool:
    return (
        op.statistic in SQUARES and _is_unweighted(op) and all(is_partition(m) for _, m in op.over)
    )
