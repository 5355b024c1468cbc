"""Statistics of affine functions of a value become statistics of the value itself.

mean(a x + b) = a mean(x) + b, var(a x + b) = a^2 var(x), and a second moment about any
centre is var(x) + (mean(x) - centre)^2: GraphNorm's mean((x - s m)^2) needs no second look
at x. Where coefficients vary within a pool, x is measured on the largest part on which
they do not, and the rest is done on the narrow results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanorm.ir.aggregation import (
    REGULAR,
    Aggregation,
    ByIndex,
    Dense,
    Neighbours,
    Ones,
    is_partition,
)
from metanorm.ir.nodes import Count, Let, Map, Pool, Program, Ref, Repeat, Type
from metanorm.ir.rename import map_operands
from metanorm.ir.typing import type_of
from metanorm.passes.affine import Affine, Form
from metanorm.passes.builder import Builder

SQUARES = ("mean", "sum")
MAYBE_EMPTY = (ByIndex, Neighbours, Dense)  # whose pools may hold nothing


def moments(program: Program) -> Program:
    """The program with every statistic of an affine form rewritten."""
    return _Moments(program).run()


class _Moments:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.affine = Affine(self.b)
        self.bodies: dict[tuple[Let, ...], tuple[Let, ...]] = {}  # of loops, rewritten

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            if isinstance(op, Pool):
                self._pool(let, op)
                continue
            if isinstance(op, Repeat):
                op = replace(op, body=self._biased(op, self.b.types))
            ref = self.b.copy(let, op)
            form = self.affine.derive(op)
            if form is not None and ref not in self.affine.forms:
                self.affine.forms[ref] = form
        return self.b.finish()

    def _biased(self, op: Repeat, outside: Mapping[Ref, Type]) -> tuple[Let, ...]:
        """The body of a loop with variances made unbiased; the rest of it stays as it is."""
        if op.body in self.bodies:
            return self.bodies[op.body]
        types = {**outside, **{i: outside[first] for i, first in zip(op.inside, op.initial)}}
        done: list[Let] = []
        for let in op.body:
            types[let.name] = let.type
            inner = let.op
            if isinstance(inner, Repeat):
                done.append(replace(let, op=replace(inner, body=self._biased(inner, types))))
            elif isinstance(inner, Pool) and inner.ddof:
                biased, counted = self.b.fresh_name("%var"), self.b.fresh_name("%count")
                count = Count(inner.over, inner.where, inner.weight)
                type_ = type_of(count, types, self.b.declarations)
                done.append(replace(let, name=biased, op=replace(inner, ddof=0)))
                done.append(replace(let, name=counted, op=count, type=type_))
                done.append(replace(let, op=Map("unbiased", (biased, counted))))
            else:
                done.append(let)
        self.bodies[op.body] = tuple(done)
        return self.bodies[op.body]

    def _pool(self, let: Let, op: Pool) -> None:
        self.b.span = let.span
        op = self._inwards(op)
        if op.ddof and op.statistic == "var":
            biased = self._rewritten(replace(op, ddof=0))
            count = self.b.emit(Count(op.over, op.where, op.weight))
            self.b.substitute(let, self.b.map("unbiased", biased, count))
            return
        self.b.substitute(let, self._rewritten(op))

    def _inwards(self, op: Pool) -> Pool:
        """A mean of sums of squares as a sum of means: first along what leaves the centre alone."""
        inner = self.b.ops.get(op.value)
        if not (isinstance(inner, Pool) and _linear(op) and _linear(inner)):
            return op
        form = self._squared(inner.value)
        if form is None or not self._constant(form, op.over) or self._constant(form, inner.over):
            return op
        first = self._rewritten(replace(op, value=inner.value))
        return replace(inner, value=first)

    def _rewritten(self, op: Pool) -> Ref:
        second = self._as_second(op)
        if second is not None:
            return second
        form = self.affine.of(op.value)
        if op.statistic not in ("mean", "var", "second") or form.guard or not _plain(op):
            return self.b.emit(op)
        if op.statistic != "second" and (constant := self._without_constant_axes(op)) is not None:
            return constant
        if op.statistic == "second":
            return self._second(op, form)
        return self.b.emit(op) if form.trivial else self._of_form(op, form)

    def _without_constant_axes(self, op: Pool) -> Ref | None:
        """A mean or variance along axes that the value, rewritten, does not vary along."""
        axes = self.b.types[op.value].axes
        there = {*axes, *(self.b.space.base(axis) for axis in axes)}
        over = tuple(
            (a, m) for a, m in op.over if a in there or not isinstance(m, (Ones, *REGULAR))
        )
        if len(over) == len(op.over):
            return None
        if over:
            return self._rewritten(replace(op, over=over))
        return op.value if op.statistic == "mean" else self.b.number(0)

    # ---- squares

    def _squared(self, ref: Ref) -> Form | None:
        """The form of v where a value is v * v."""
        op = self.b.ops.get(ref)
        if isinstance(op, Map) and op.function == "mul" and op.arguments[0] == op.arguments[1]:
            form = self.affine.of(op.arguments[0])
            return form if not form.trivial and not form.guard else None
        return None

    def _as_second(self, op: Pool) -> Ref | None:
        """A mean or sum of squares of an affine form as a second moment about zero."""
        form = self._squared(op.value)
        if form is None or op.statistic not in SQUARES or not _plain(op):
            return None
        if not self._constant(form, op.over):
            return None
        square = self.b.ops[op.value]
        assert isinstance(square, Map)
        zero = self.b.number(0)
        mean = self._second(Pool("second", square.arguments[0], op.over, about=zero), form)
        if op.statistic == "mean":
            return mean
        return self.b.map("mul", mean, self.b.emit(Count(op.over)))

    def _second(self, op: Pool, form: Form) -> Ref:
        """A second moment about `about`, from mean and variance."""
        assert op.about is not None
        about_zero = self.b.constant_value(op.about) == 0
        only_scaled = form.centre is None and form.shift is None
        if about_zero and only_scaled and (not form.scale or self._constant(form, op.over)):
            raw = self.b.emit(Pool("second", form.source, op.over, about=op.about))
            return self._squarely_scaled(raw, form)
        over = op.over
        if about_zero and form.shift is None and self._centred(form, over):
            return self._rewritten(Pool("var", op.value, over))  # NaN stays NaN in the variance
        mean = self._rewritten(Pool("mean", op.value, over))
        var = self._rewritten(Pool("var", op.value, over))
        if mean == op.about:
            return var
        offset = mean
        if not about_zero:
            offset = self.b.map("sub", mean, op.about, name="%offset")
        moment = self.b.map("add", var, self.b.map("mul", offset, offset))
        return moment if self._vanishes(offset, over) else self._of_some(moment, over)

    def _vanishes(self, ref: Ref, over: Aggregation) -> bool:
        """Whether a value is surely zero for a pool of nothing."""
        if not any(isinstance(m, MAYBE_EMPTY) for _, m in over):
            return True
        match self.b.ops.get(ref):
            case Pool(over=own):
                return own == over
            case Map("mul", arguments):
                return any(self._vanishes(a, over) for a in arguments)
            case Map("add" | "sub", arguments):
                return all(self._vanishes(a, over) for a in arguments)
            case _:
                return False

    def _of_some(self, value: Ref, over: Aggregation) -> Ref:
        """The value, but zero for a pool of nothing."""
        zero = self.b.number(0)
        there = self.b.map("ne", self.b.emit(Count(over)), zero)
        return self.b.map("where", there, value, zero)

    # ---- forms

    def _squarely_scaled(self, second: Ref, form: Form) -> Ref:
        """A second moment of the source, as that of the form."""
        for factor in form.scale:
            second = self.b.map("mul", self.b.map("mul", factor, factor), second)
        return second

    def _centred(self, form: Form, over: Aggregation) -> bool:
        """Whether the centre is the mean over these very pools."""
        centre = self.b.ops.get(form.centre) if form.centre is not None else None
        return centre == Pool("mean", form.source, over) and self._constant(form, over)

    def _constant(self, form: Form, over: Aggregation) -> bool:
        return all(is_partition(m) and self.affine.is_constant(form, axis, m) for axis, m in over)

    def _of_form(self, op: Pool, form: Form) -> Ref:
        """Mean or variance of an affine form."""
        inner = tuple(
            (axis, m)
            for axis, m in op.over
            if is_partition(m) and self.affine.is_constant(form, axis, m)
        )
        rest = tuple(pair for pair in op.over if pair not in inner)
        indexed = any(isinstance(m, ByIndex) for _, m in op.over)
        if not inner or (indexed and (rest or form.shift is not None)):
            return self.b.emit(op)
        at_mean = None
        if op.statistic == "mean" or rest:
            at_mean = self.affine.at(form, self.b.emit(Pool("mean", form.source, inner)))
        if op.statistic == "mean":
            assert at_mean is not None
            return self._rewritten(Pool("mean", at_mean, rest)) if rest else at_mean
        var = self.b.emit(Pool("var", form.source, inner))
        var = self._squarely_scaled(var, form)
        if not rest:
            return var
        assert at_mean is not None
        within = self._rewritten(Pool("mean", var, rest))
        return self.b.map("add", within, self._rewritten(Pool("var", at_mean, rest)))


def _plain(op: Pool) -> bool:
    return op.where is None and op.weight is None


def _linear(op: Pool) -> bool:
    return op.statistic in SQUARES and _plain(op) and all(is_partition(m) for _, m in op.over)
