"""Affine forms: a wide value as scale * (source - centre) + shift, with narrow coefficients.

A value is narrow beside another when it lacks one of its axes, so that computing
with it costs next to nothing. Statistics of an affine form follow from statistics
of its source, and a chain of maps folds into one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Matrix
from metanorm.ir.nodes import Map, Mode, Op, Ref
from metanorm.passes.builder import Builder


@dataclass(frozen=True, slots=True)
class Form:
    """`None` stands for a scale of one, a centre of zero, a shift of zero.

    Where there is a `guard`, the form holds where that is true, and elsewhere the value is
    `other` (zero where that is `None`). It is not folded into the scale: zero times NaN would not be zero.
    """

    source: Ref
    scale: Ref | None = None
    centre: Ref | None = None
    shift: Ref | None = None
    guard: Ref | None = None
    other: Ref | None = None

    @property
    def trivial(self) -> bool:
        """Whether this is the source itself."""
        return not self.coefficients

    @property
    def coefficients(self) -> tuple[Ref, ...]:
        """The coefficients that there are."""
        every = (self.scale, self.centre, self.shift, self.guard, self.other)
        return tuple(c for c in every if c is not None)


class Affine:
    """Finds and computes with forms; coefficients are bound as they come up."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder
        self.forms: dict[Ref, Form] = {}
        program = builder.program
        tensors = [builder.known.axes(i.dims) for i in program.inputs if i.sort == "tensor"]
        space = builder.space
        # An input that lacks axes of the first one is narrow itself: AdaLN's scale and shift.
        self._wide = [set(t) for t in tensors if space.join(t, tensors[0]) != tensors[0]]
        self._wide += [set(tensors[0])] if tensors else []

    def of(self, ref: Ref) -> Form:
        """The form of a value; its own source where nothing else is known."""
        return self.forms.get(ref, Form(ref))

    def wide(self, ref: Ref) -> bool:
        """Whether a value is as large as an input, so that its maps are worth folding."""
        return any(axes <= set(self.b.types[ref].axes) for axes in self._wide)

    def narrow(self, ref: Ref, wide: Ref) -> bool:
        """Whether `ref` lacks an axis of `wide` and has none of its own."""
        axes, of = self.b.types[ref].axes, self.b.types[wide].axes
        return self.b.space.join(axes, of) == of and not set(of) <= set(axes)

    def constant(self, form: Form, axis: str, matrix: Matrix) -> bool:
        """Whether no coefficient varies within the pools of `matrix`."""
        types = self.b.types
        return all(self.b.space.constant(types[c].axes, axis, matrix) for c in form.coefficients)

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
                form = self._divided(a, b)
            case Map("neg", (a,)):
                form = self._times(self.of(a), self.b.number(-1))
            case Map("where", (condition, a, b)):
                form = self._guarded(condition, a, b)
            case Mode(train, evaluated, buffer):
                form = self._mode(train, evaluated, buffer)
            case _:
                return None
        if form is None or not self.wide(form.source):
            return None
        return form if all(self.narrow(c, form.source) for c in form.coefficients) else None

    def _sum(self, function: str, a: Ref, b: Ref) -> Form | None:
        left, right = self.of(a), self.of(b)
        if self.narrow(b, left.source):
            plus = b if function == "add" else self.b.map("neg", b)
            if left.scale is None and left.shift is None and left.guard is None:
                minus = b if function == "sub" else plus and self.b.map("neg", b)
                centre = minus if left.centre is None else self.b.map("add", left.centre, minus)
                return replace(left, centre=centre)  # x - m: the centre is kept apart
            return self._plus(left, plus)
        if self.narrow(a, right.source):
            right = right if function == "add" else self._times(right, self.b.number(-1))
            return self._plus(right, a)
        if left.source != right.source or left.guard or right.guard:
            return None
        right = right if function == "add" else self._times(right, self.b.number(-1))
        one = self.b.number(1)
        scale = self.b.map("add", left.scale or one, right.scale or one, name="%scale")
        offsets = [o for o in (self.offset(left), self.offset(right)) if o is not None]
        shift = None if not offsets else offsets[0]
        if len(offsets) == 2:
            shift = self.b.map("add", *offsets, name="%shift")
        return Form(left.source, scale, None, shift)

    def _plus(self, form: Form, addend: Ref) -> Form:
        shift, other = addend, addend
        if form.shift is not None:
            shift = self.b.map("add", form.shift, addend, name="%shift")
        if form.other is not None:
            other = self.b.map("add", form.other, addend)
        return replace(form, shift=shift, other=other if form.guard else None)

    def _each(self, form: Form, function: str, operand: Ref) -> Form:
        """Multiply or divide everything that there is."""

        def step(part: Ref, name: str) -> Ref:
            return self.b.map(function, part, operand, name=name)

        scale = step(form.scale or self.b.number(1), "%scale")
        shift = None if form.shift is None else step(form.shift, "%shift")
        other = None if form.other is None else step(form.other, "")
        return replace(form, scale=scale, shift=shift, other=other)

    def _times(self, form: Form, factor: Ref) -> Form:
        return self._each(form, "mul", factor)

    def _scaled(self, value: Ref, factor: Ref) -> Form | None:
        form = self.of(value)
        return self._times(form, factor) if self.narrow(factor, form.source) else None

    def _divided(self, value: Ref, divisor: Ref) -> Form | None:
        form = self.of(value)
        if not self.narrow(divisor, form.source):
            return None
        return self._each(form, "div", divisor)

    def _guarded(self, condition: Ref, a: Ref, b: Ref) -> Form | None:
        """A narrow choice between a form and something narrow."""
        form = self.of(a)
        if form.guard or not (self.narrow(condition, form.source) and self.narrow(b, form.source)):
            return None
        return replace(form, guard=condition, other=None if self.b.constant(b) == 0 else b)

    def _mode(self, train: Ref, evaluated: Ref, buffer: str | None) -> Form | None:
        left, right = self.of(train), self.of(evaluated)
        if (
            left.source != right.source
            or left.trivial
            or right.trivial
            or left.guard
            or right.guard
        ):
            return None

        def part(x: Ref | None, y: Ref | None, neutral: float) -> Ref | None:
            if x == y:
                return x
            first, second = (self.b.number(neutral) if z is None else z for z in (x, y))
            return self.b.emit(Mode(first, second, buffer))

        shift = part(self.offset(left), self.offset(right), 0)
        return Form(left.source, part(left.scale, right.scale, 1), None, shift)

    # ---- using

    def offset(self, form: Form) -> Ref | None:
        """shift - scale * centre: what is left at source zero."""
        if form.centre is None:
            return form.shift
        negative = self.b.map("neg", form.centre)
        if form.scale is not None:
            negative = self.b.map("mul", negative, form.scale, name="%shift")
        if form.shift is None:
            return negative
        return self.b.map("add", negative, form.shift, name="%shift")

    def at(self, form: Form, value: Ref) -> Ref:
        """The form with `value` in the place of its source."""
        result = value if form.centre is None else self.b.map("sub", value, form.centre)
        result = result if form.scale is None else self.b.map("mul", result, form.scale)
        return result if form.shift is None else self.b.map("add", result, form.shift)

    def bind(self, form: Form, name: Ref = "") -> Ref:
        """The value of a form: one map over the source, and one more where it is guarded."""
        inner = "" if form.guard else name
        offset = self.offset(form)
        if form.scale is None:
            value = form.source
            if offset is not None:
                value = self.b.map("add", form.source, offset, name=inner)
        elif offset is None:
            value = self.b.map("mul", form.source, form.scale, name=inner)
        else:
            value = self.b.map("fma", form.scale, form.source, offset, name=inner)
        if form.guard is None:
            return value
        other = self.b.number(0) if form.other is None else form.other
        return self.b.map("where", form.guard, value, other, name=name)
