"""Print elementwise operations as torch expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from metanorm.ir.empty_groups import singular_in_empty_groups
from metanorm.ir.exposure import exposed_to_nan
from metanorm.ir.nodes import Let, Map, Number, Ref
from metanorm.ir.ranges import ANY, Range, ranges
from metanorm.ir.scalar import Const
from metanorm.targets.python.pyir import Assign, Binary, Call, Expr, If, IfElse, Literal, Name, Stmt
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context, is_square
from metanorm.targets.torch.elementwise import (
    FUNCTIONS_WITH_SLOPE,
    NUMBER_FUNCTIONS,
    TENSOR_FUNCTIONS,
    guarded,
    guarded_inverse,
    of_numbers,
)
from metanorm.targets.torch.layout import Dims, Value, call, integer, method

NEUTRAL = {"mul": 1.0, "add": 0.0}
OF_TENSORS = {"where", "clamp_min", "clamp_max"}  # those of torch take no number as their first


class MapPrinter:
    """Prints the maps of one function."""

    def __init__(self, context: Context, broadcaster: Broadcaster) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        is_derived = context.program.target != "backward"  # autograd derives all else
        self.exposed = exposed_to_nan(context.program) if is_derived else frozenset()
        self.singular = singular_in_empty_groups(context.program)
        self.roots = {  # the square root of each value that has one
            let.op.arguments[0]: let.name
            for let in context.program.body
            if isinstance(let.op, Map) and let.op.function == "sqrt"
        }

    @cached_property
    def ranges(self) -> dict[Ref, Range]:
        """The range of each value, outside of loops."""
        return ranges(self.ctx.program)

    def map(self, let: Let, op: Map, out: list[Stmt]) -> None:
        """Print a map, or keep its expression to be inlined."""
        if op.function == "rsqrt" and self._is_printed_for(let, self.roots.get(op.arguments[0])):
            root = self.ctx.values[self.roots[op.arguments[0]]]
            inverse = Binary("/", (integer(1), root.expr))
            self.ctx.keep(let, replace(root, expr=inverse), out, "rstd")
            return
        optional = [ref for ref in op.arguments if self.ctx.values[ref].optional]
        if op.function == "rescale":
            self._rescale(let, op, out)
            return
        if len(optional) == 1 and self._is_neutral_when_absent(op, optional[0]):
            self._applied_if_present(let, op, optional[0], out)
            return
        values = [self._arithmetic(ref, op.function, i) for i, ref in enumerate(op.arguments)]
        if all(v.number for v in values) and op.function in NUMBER_FUNCTIONS:
            argument_ranges = [self.ranges.get(ref, ANY) for ref in op.arguments]
            number = of_numbers(op.function, [v.expr for v in values], argument_ranges)
            self.ctx.keep(let, Value(number, number=True), out, "number")
            return
        if values[0].number and (op.function in OF_TENSORS or all(v.number for v in values)):
            dtype = Name("torch.bool") if op.function == "where" else None
            values[0] = Value(self.ctx.tensor(values[0].expr, dtype))
        elif op.function == "where" and values[1].number and values[2].number:
            # torch would make whole numbers integers, and others float32.
            values[2] = Value(self.ctx.tensor(values[2].expr))
        exprs, dims = self.broadcaster.broadcast(values, let.type.axes)
        loose = self._is_loose(values, let.type.axes, dims)
        if is_square(op):
            is_guarded = self._is_guarded(let.name, op)
            square = guarded("square", exprs[0]) if is_guarded else method(exprs[0], "square")
            self.ctx.keep(let, Value(square, dims, may_lack_dims=loose), out, "square")
            return
        if op.function == "unbiased" and values[1].number:
            exprs[1] = values[1].expr
        value = Value(self._applied(let, op, values, exprs), dims, may_lack_dims=loose)
        self.ctx.keep(let, value, out, "y" if self.ctx.is_wide(let.name) else "value")

    def _is_printed_for(self, let: Let, ref: Ref | None) -> bool:
        """Whether a value is printed already, and not in a branch that `let` is not in."""
        placements = self.ctx.mode_placement
        return ref in self.ctx.values and placements[ref] in (None, placements[let.name])

    def _applied(self, let: Let, op: Map, values: Sequence[Value], exprs: Sequence[Expr]) -> Expr:
        """The expression of a map, guarded if its derivative may be NaN without a gradient."""
        unguarded = self._clamped(op, exprs) or TENSOR_FUNCTIONS[op.function](*exprs)
        if not self._is_guarded(let.name, op):
            return unguarded
        if op.function == "div" and values[0].number:
            return Binary("*", (exprs[0], guarded_inverse(exprs[1])))
        linear = op.function in ("mul", "div") and any(value.number for value in values)
        has_slope = op.function in FUNCTIONS_WITH_SLOPE or op.function == "rsqrt"
        return unguarded if linear or not has_slope else guarded(op.function, *exprs)

    def _clamped(self, op: Map, exprs: Sequence[Expr]) -> Expr | None:
        """`torch.clamp(x, low, high)`, if the call with the other bound is not printed yet."""
        if op.function != "clamp_max" or not self.ctx.values[op.arguments[1]].number:
            return None
        match self.ctx.lets[op.arguments[0]].op, exprs:
            case Map("clamp_min", (_, low)), [Call(_, (x,), (("min", bound),)), high]:
                both_numbers = self.ctx.values[low].number
                return call("torch.clamp", x, bound, high) if both_numbers else None
        return None

    def _is_guarded(self, ref: Ref, op: Map) -> bool:
        return ref in self.singular or any(operand in self.exposed for operand in op.arguments)

    def _arithmetic(self, ref: Ref, function: str, position: int) -> Value:
        """An operand. A boolean becomes zeros and ones, except as the condition of `where`."""
        value = self.ctx.not_none(ref)
        kind = self.ctx.lets[ref].type.kind
        chooses = function == "where" and position == 0
        if kind == "bool" and not chooses:
            return self.ctx.as_number(ref, value)
        if chooses and kind != "bool" and not value.number:
            return replace(value, expr=Binary("!=", (value.expr, integer(0))))
        return value

    def _is_neutral_when_absent(self, op: Map, optional: Ref) -> bool:
        """Whether a missing operand changes nothing: a factor of one, or a term of zero."""
        has_other_operand = op.arguments != (optional, optional)
        return has_other_operand and NEUTRAL.get(op.function) == self.ctx.absent_value(optional)

    def _applied_if_present(self, let: Let, op: Map, optional: Ref, out: list[Stmt]) -> None:
        """Print `v = v * weight` under a test that there is a weight."""
        present_ref = next(ref for ref in op.arguments if ref != optional)
        values = [
            self.ctx.not_none(present_ref),
            replace(self.ctx.values[optional], optional=False),
        ]
        exprs, dims = self.broadcaster.broadcast(values, let.type.axes)
        base, operand = exprs
        if values[0].number:
            base = self.ctx.tensor(base)
        reuse = (
            isinstance(base, Name)
            and self.ctx.last_use(present_ref)
            and not self._is_argument(base)
        )
        role = self.ctx.role(let.name) or self.ctx.next_role(let.name) or "value"
        name = base if reuse and isinstance(base, Name) else Name(self.ctx.name_of(let.name, role))
        if not reuse:
            out.append(Assign((name,), self.ctx.with_named_operands(base, out)))
        inner: list[Stmt] = []
        combined = self.ctx.with_named_operands(
            self._applied(let, op, values, (name, operand)), inner
        )
        present = Binary("is not", (Name(self.ctx.argument_name(optional)), Literal(None)))
        out.append(If(present, (*inner, Assign((name,), combined))))
        loose = self._is_loose(
            [values[0], replace(values[1], may_lack_dims=True)], let.type.axes, dims
        )
        self.ctx.values[let.name] = Value(name, dims, may_lack_dims=loose)

    def _is_loose(self, values: Sequence[Value], axes: Sequence[str], dims: Dims) -> bool:
        """Whether the result may lack a dimension that no other operand has for certain."""
        sure = {
            d.axis
            for v in values
            if not v.may_lack_dims
            for d in self.broadcaster.spread(v, axes).dims
            if d.full
        }
        return any(d.full and d.axis not in sure for d in dims)

    def _is_argument(self, name: Name) -> bool:
        return name.text in self.ctx.program.index.inputs

    def _rescale(self, let: Let, op: Map, out: list[Stmt]) -> None:
        """Print the call of `rescale`. Neutral arguments are left out, missing ones are `None`."""
        source, centre, shift, *scales = op.arguments
        roles = {"centre": centre, **dict(zip(("scale", "weight"), scales)), "shift": shift}
        used = {role: ref for role, ref in roles.items() if not self._is_neutral(role, ref)}
        for role, ref in used.items():
            if self.ctx.values[ref].optional and self.ctx.absent_value(ref) != _neutral_of(role):
                self.ctx.not_none(ref)
        wide = self.ctx.not_none(source)
        if wide.may_lack_dims:  # an absent input leaves it without some of its axes
            wide = self.broadcaster.expanded(wide, let.type.axes)
        values = [wide]
        values += [replace(self.ctx.values[ref], optional=False) for ref in used.values()]
        exprs, dims = self.broadcaster.broadcast(values, let.type.axes)
        keywords: list[tuple[str, Expr]] = []
        for (role, ref), expr in zip(used.items(), exprs[1:]):
            if self.ctx.values[ref].optional and not isinstance(expr, Name):
                missing = Binary("is", (Name(self.ctx.argument_name(ref)), Literal(None)))
                local = Name(self.ctx.local(role))
                out.append(Assign((local,), IfElse(missing, Literal(None), expr)))
                expr = local
            keywords.append((role, expr))
        if source in self.exposed or let.name in self.singular:
            keywords.append(("gaps", Literal(True)))
        expr = Call(Name("runtime.rescale"), (exprs[0],), tuple(keywords))
        self.ctx.keep(let, Value(expr, dims), out, "y")

    def _is_neutral(self, role: str, ref: Ref) -> bool:
        op = self.ctx.lets[ref].op
        return isinstance(op, Number) and op.value == Const(_neutral_of(role))


def _neutral_of(role: str) -> float:
    """The value of a `rescale` argument that changes nothing."""
    return 0.0 if role in ("centre", "shift") else 1.0
