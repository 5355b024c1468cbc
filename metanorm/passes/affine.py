"""Affine forms: a wide value as scale * (source - centre) + shift, with narrow coefficients.

A value is narrow beside another one if it lacks one of its axes: computing with it costs next to
nothing. The statistics of an affine form follow from those of its source, and a chain of maps
folds into one. The form does not multiply the centre out: a mean that is large beside the spread
would cancel badly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Grouping
from metanorm.ir.nodes import Buffer, Detach, Map, Mode, Op, Pool, Ref
from metanorm.passes.builder import Builder

MAX_FACTORS = 2


@dataclass(frozen=True, slots=True)
class Form:
    """An affine form. An empty `scale` is one; a `centre` or `shift` of `None` is zero.

    The scale is a product of factors: that of layer norm is one number for each row times one for
    each feature, and their product would be as wide as the value. With a `guard`, the form holds
    where the guard is true, and elsewhere the value is `other` (`None` is zero). The guard is no
    factor of the scale, since zero times NaN is not zero.
    """

    source: Ref
    scale: tuple[Ref, ...] = ()
    centre: Ref | None = None
    shift: Ref | None = None
    guard: Ref | None = None
    other: Ref | None = None

    @property
    def trivial(self) -> bool:
        """Whether the form is its source."""
        return not self.coefficients

    @property
    def coefficients(self) -> tuple[Ref, ...]:
        """The coefficients that are not `None`."""
        rest = (self.centre, self.shift, self.guard, self.other)
        return (*self.scale, *(c for c in rest if c is not None))


class Affine:
    """Derives affine forms of values, and binds their coefficients."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder
        self.forms: dict[Ref, Form] = {}
        program = builder.program
        input_axes = [
            builder.declarations.axes(decl.dims) for decl in program.inputs if decl.sort == "tensor"
        ]
        space = builder.space
        # An input that lacks axes of the first one is narrow itself: AdaLN's scale and shift.
        self._wide = [
            set(axes) for axes in input_axes if space.join(axes, input_axes[0]) != input_axes[0]
        ]
        self._wide += [set(input_axes[0])] if input_axes else []
        self._wide += [
            (axes - {axis.piece_of[0]}) | {axis.name}
            for axes in self._wide
            for axis in space
            if axis.piece_of is not None and axis.piece_of[0] in axes
        ]

    def of(self, ref: Ref) -> Form:
        """The form of a value; one without a known form is its own source."""
        return self.forms.get(ref, Form(ref))

    def wide(self, ref: Ref) -> bool:
        """Whether a value is as large as an input, so that folding its maps pays.

        Conditions are never wide: a form cannot rescale them.
        """
        type_ = self.b.types[ref]
        return type_.kind == "real" and any(axes <= set(type_.axes) for axes in self._wide)

    def narrow(self, ref: Ref, wide: Ref) -> bool:
        """Whether the axes of `ref` are fewer than those of `wide`, and all among them."""
        axes, wide_axes = self.b.types[ref].axes, self.b.types[wide].axes
        return self.b.space.join(axes, wide_axes) == wide_axes and not set(wide_axes) <= set(axes)

    def is_constant(self, form: Form, axis: str, grouping: Grouping) -> bool:
        """Whether each coefficient is constant in each pool of a grouping of `axis`."""
        types = self.b.types
        return all(
            self.b.space.is_constant(types[c].axes, axis, grouping) for c in form.coefficients
        )

    # ---- deriving

    def derive(self, op: Op) -> Form | None:
        """The form of an operation on values with forms; `None` where it is not affine in one."""
        form: Form | None = None
        match op:
            case Map("add" | "sub", (a, b)):
                form = self._sum(op.function, a, b)
            case Map("mul", (a, b)):
                form = self._scaled(a, b) or self._scaled(b, a)
            case Map("div", (a, b)):
                form = self._scaled(a, b, "div")
            case Map("neg", (a,)):
                form = self._negated(self.of(a))
            case Map("where", (condition, a, b)):
                form = self._guarded(condition, a, b)
            case Mode(train, evaluated, buffer):
                form = self._mode_form(train, evaluated, buffer)
            case _:
                return None
        if form is None or not self.wide(form.source):
            return None
        return form if all(self.narrow(c, form.source) for c in form.coefficients) else None

    def _sum(self, function: str, a: Ref, b: Ref) -> Form | None:
        left, right = self.of(a), self.of(b)
        if self.narrow(b, left.source):
            return self._shifted(left, b, function)
        if self.narrow(a, right.source):
            flipped = right if function == "add" else self._negated(right)
            return None if flipped is None else self._shifted(flipped, a, "add")
        if left.source != right.source or left.guard or right.guard:
            return None
        other = right if function == "add" else self._negated(right)
        return None if other is None else self._added(left, other)

    def _shifted(self, form: Form, offset: Ref, function: str) -> Form:
        """The form plus or minus a narrow value, which joins the centre while there is no scale."""
        if not form.scale and form.shift is None and form.guard is None:
            if form.centre is not None:
                opposite = "add" if function == "sub" else "sub"
                return replace(form, centre=self.b.map(opposite, form.centre, offset))
            return (
                replace(form, centre=offset) if function == "sub" else replace(form, shift=offset)
            )
        signed = offset if function == "add" else self.b.map("neg", offset)
        shift, other = signed, signed
        if form.shift is not None:
            shift = self.b.map("add", form.shift, signed, name="%shift")
        if form.other is not None:
            other = self.b.map("add", form.other, signed)
        return replace(form, shift=shift, other=other if form.guard else None)

    def _added(self, left: Form, right: Form) -> Form | None:
        """The sum of two forms of one source, about the first centre that there is.

        The sum does not depend on its centre. If the forms have centres of their own, the common
        one has no gradient: that would be the difference of two numbers as large as the larger
        scale, from which rounding takes away what a small scale leaves. Where a centre is a plain
        mean, that hardly moves the data; what else moves a centre would get a wrong gradient.
        """
        if len(left.scale) > 1 or len(right.scale) > 1:
            return None
        one = self.b.number(1)
        first, second = (form.scale[0] if form.scale else one for form in (left, right))
        scale = self.b.map("add", first, second, name="%scale")
        shifts = [s for s in (left.shift, right.shift) if s is not None]
        centre = left.centre if left.centre is not None else right.centre
        if centre is not None and left.centre != right.centre and not self._is_plain_mean(centre):
            centre = self._detached(centre)
        for form, factor in ((left, first), (right, second)):
            if form.centre == centre:
                continue
            assert centre is not None
            gap = centre
            if form.centre is not None:
                gap = self.b.map("sub", centre, form.centre)
            shifts.append(self.b.map("mul", gap, factor, name="%shift"))
        shift = shifts[0] if shifts else None
        for other_shift in shifts[1:]:
            assert shift is not None
            shift = self.b.map("add", shift, other_shift, name="%shift")
        return Form(left.source, (scale,), centre, shift)

    def _is_plain_mean(self, ref: Ref) -> bool:
        """Whether a value is the mean of elements that all weigh the same, or a running one."""
        match self.b.ops[ref]:
            case Pool("mean", where=None, weight=None):
                return True
            case Mode(train, evaluated):
                return self._is_plain_mean(train) and self._is_plain_mean(evaluated)
            case op:
                return isinstance(op, Buffer)

    def _detached(self, ref: Ref) -> Ref:
        return ref if isinstance(self.b.ops[ref], Detach) else self.b.emit(Detach(ref))

    def _scaled(self, value: Ref, operand: Ref, function: str = "mul") -> Form | None:
        """The form of a value multiplied by a narrow operand, or divided by it."""
        form = self.of(value)
        if not self.narrow(operand, form.source):
            return None
        if form.shift is not None and not form.scale and not form.guard and form.centre is None:
            form = replace(form, centre=self.b.map("neg", form.shift), shift=None)
        scale = self._factors(form, operand, function)
        if scale is None:
            return None
        shift = None if form.shift is None else self.b.map(function, form.shift, operand)
        other = None if form.other is None else self.b.map(function, form.other, operand)
        return replace(form, scale=scale, shift=shift, other=other)

    def _factors(self, form: Form, operand: Ref, function: str) -> tuple[Ref, ...] | None:
        """The factors of the scale and one more, multiplied into another if that stays narrow."""
        for position, factor in enumerate(form.scale):
            joined = self.b.space.join(self.b.types[factor].axes, self.b.types[operand].axes)
            if not set(self.b.types[form.source].axes) <= set(joined):
                product = self.b.map(function, factor, operand, name="%scale")
                return (*form.scale[:position], product, *form.scale[position + 1 :])
        if len(form.scale) == MAX_FACTORS:
            return None
        factor = operand if function == "mul" else self.b.map("div", self.b.number(1), operand)
        return (*form.scale, factor)

    def _negated(self, form: Form) -> Form | None:
        scale = self._factors(form, self.b.number(-1), "mul")
        shift = None if form.shift is None else self.b.map("neg", form.shift)
        other = None if form.other is None else self.b.map("neg", form.other)
        return None if scale is None else replace(form, scale=scale, shift=shift, other=other)

    def _guarded(self, condition: Ref, a: Ref, b: Ref) -> Form | None:
        """The form of a choice between an affine form and a narrow value, by a narrow condition."""
        form = self.of(a)
        if form.guard or not (self.narrow(condition, form.source) and self.narrow(b, form.source)):
            return None
        return replace(form, guard=condition, other=None if self.b.constant_value(b) == 0 else b)

    def _mode_form(self, train: Ref, evaluated: Ref, buffer: str | None) -> Form | None:
        left, right = self.of(train), self.of(evaluated)
        guarded = left.guard or right.guard or len(left.scale) > 1 or len(right.scale) > 1
        if left.source != right.source or left.trivial or right.trivial or guarded:
            return None

        def coefficient(x: Ref | None, y: Ref | None, neutral: float) -> Ref | None:
            if x == y:
                return x
            first, second = (self.b.number(neutral) if z is None else z for z in (x, y))
            return self.b.emit(Mode(first, second, buffer))

        scales = [form.scale[0] if form.scale else None for form in (left, right)]
        scale = coefficient(scales[0], scales[1], 1)
        centre = coefficient(left.centre, right.centre, 0)
        shift = coefficient(left.shift, right.shift, 0)
        return Form(left.source, () if scale is None else (scale,), centre, shift)

    # ---- using

    def at(self, form: Form, value: Ref) -> Ref:
        """Bind the form with `value` in place of its source."""
        if value == form.centre and form.shift is not None:
            return form.shift
        result = value if form.centre is None else self.b.map("sub", value, form.centre)
        for factor in form.scale:
            result = self.b.map("mul", result, factor)
        return result if form.shift is None else self.b.map("add", result, form.shift)

    def bind(self, form: Form, name: Ref = "") -> Ref:
        """Bind the value of a form: one map of the source, and a choice if there is a guard."""
        inner = "" if form.guard else name
        value = self._applied(form, inner)
        if form.guard is None:
            return value
        other = self.b.number(0) if form.other is None else form.other
        return self.b.map("where", form.guard, value, other, name=name)

    def _applied(self, form: Form, name: Ref) -> Ref:
        count = len(form.scale) + (form.centre is not None) + (form.shift is not None)
        if count == 0:
            return form.source
        if count == 1:
            if form.scale:
                return self.b.map("mul", form.source, form.scale[0], name=name)
            if form.centre is not None:
                return self.b.map("sub", form.source, form.centre, name=name)
            assert form.shift is not None
            return self.b.map("add", form.source, form.shift, name=name)
        centre = self.b.number(0) if form.centre is None else form.centre
        shift = self.b.number(0) if form.shift is None else form.shift
        scale = form.scale or (self.b.number(1),)
        return self.b.map("rescale", form.source, centre, shift, *scale, name=name)
