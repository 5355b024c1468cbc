"""Lowering of expressions. A part with an error is reported once, and poisons what contains it."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.diagnostics.backward import NoArrivingGradient
from metanorm.diagnostics.functions import UnknownFunction
from metanorm.diagnostics.names import UnknownField, UnknownName
from metanorm.diagnostics.statistics import BadOption, NeedsOver
from metanorm.diagnostics.syntax import MisplacedPart
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.ops import (
    CALLABLE,
    COMPARISONS,
    DRAWS,
    FORMS,
    FUNCTIONS,
    MATRICES,
    OPERATORS,
    STATISTICS,
    operations,
)
from metanorm.ir.stated import GRAD
from metanorm.semantics.choices import lower_comparison
from metanorm.semantics.draws import draw_of_call
from metanorm.semantics.forms import Forms
from metanorm.semantics.function_calls import lower_function_call
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.pools import LoweredPool, PoolLowering
from metanorm.semantics.scan import BEFORE, is_scan, state_before
from metanorm.semantics.statistics import Statistics
from metanorm.semantics.subscripts import Subscripts
from metanorm.semantics.values import (
    POISON,
    Choice,
    Moments,
    Outputs,
    Poison,
    PoolOnly,
    Tensor,
    Text,
    Value,
)
from metanorm.syntax import ast, build


class Expressions:
    """Lowers the expressions of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.pools = PoolLowering(low, scope)
        self.statistics = Statistics(low, scope, self.pools, self.number)
        self.forms = Forms(self)
        self.subscripts = Subscripts(self)
        self.norms: tuple[str, ...] = ()  # the norms that can be called
        self.call_norm: Callable[[ast.Call], Value] | None = None

    # ---- values and numbers

    def number(self, expr: ast.Expr) -> Tensor | None:
        """The value of an expression as a number; `None` after a report."""
        return self.as_number(self.value(expr), expr)

    def as_number(self, value: Value, expr: ast.Expr | ast.Identifier) -> Tensor | None:
        """A value as a number; `None` after a report at `expr`."""
        if isinstance(value, Outputs):
            return value.first
        if isinstance(value, Tensor) and value.type.kind != "int":
            return value
        if isinstance(value, Tensor):
            hint = (
                "an index chooses rows of a table, `table[label]`, pools, `over N: label`, or is "
                "compared, `position(T) < lengths`; numbers to compute with are a tensor: "
                "`input lengths[N]`"
            )
            self.problems.add(WrongKind(expr.span, "an index", "a number", hint))
        elif isinstance(value, Moments):
            hint = "write `.mean` or `.var` behind it"
            self.problems.add(WrongKind(expr.span, "moments", "a number", hint))
        elif isinstance(value, PoolOnly):
            hint = f"it pools: `over {value.axis}: {value.name}`"
            self.problems.add(WrongKind(expr.span, f"{value.what}", "a number", hint))
        elif isinstance(value, (Text, Choice)):
            hint = 'a string is compared: `where(mode == "graph", a, b)`'
            actual = "a string" if isinstance(value, Text) else "a choice of strings"
            self.problems.add(WrongKind(expr.span, actual, "a number", hint))
        return None

    def value(self, expr: ast.Expr) -> Value:
        """What an expression denotes."""
        match expr:
            case ast.Number():
                return self.low.number(expr.value, expr.span)
            case ast.Text():
                return Text(expr.value)
            case ast.Name():
                return self._name(expr)
            case ast.Negative():
                return self._apply("neg", expr, expr.operand)
            case ast.Power():
                return self._apply("pow", expr, expr.base, expr.exponent)
            case ast.Compare():
                return self._compare(expr)
            case ast.Chain():
                return self._chain(expr)
            case ast.FieldOf():
                return self._field(expr)
            case ast.Index():
                return self.subscripts.apply(expr)
            case ast.Call():
                return self._call(expr)
            case ast.Spread():
                hint = f"the number of its positions is written `size(*{expr.name})`"
                self.problems.add(MisplacedPart(expr.span, f"the axis `*{expr.name}`", hint))
                return POISON
            case ast.AxisList():
                hint = "several axes stand only in a call of a norm: `Inner(x, D = (H, E))`"
                self.problems.add(MisplacedPart(expr.span, "a list of axes", hint))
                return POISON
            case _:
                return POISON

    # ---- names and arithmetic

    def _name(self, expr: ast.Name) -> Value:
        entity = self.scope.names.find(expr.name)
        if entity is not None:
            return entity.value
        literals = {"true": 1, "false": 0}
        if expr.name in literals:
            return self.low.number(literals[expr.name], expr.span)
        if expr.name == GRAD:
            self.problems.add(NoArrivingGradient(expr.span))
            return POISON
        known_names = (*self.scope.names.all(), *literals)
        is_axis = expr.name in self.low.table.declared
        later = self.scope.introduced_later.get(expr.name)
        rows = operations(expr.name) if expr.name in CALLABLE else []
        usage = rows[0].usage if rows else ""
        is_of_call = expr.name in self.scope.names_of_call
        self.problems.add(
            UnknownName(expr.span, expr.name, known_names, later, is_axis, usage, is_of_call)
        )
        return POISON

    def _apply(self, function: str, expr: ast.Expr, *operands: ast.Expr) -> Value:
        values = [self.number(operand) for operand in operands]
        if any(v is None for v in values):
            return POISON
        if function == "div":
            self._note_divisor(values[1], operands[1])
        return self.low.map(function, *(v for v in values if v is not None), span=expr.span)

    def _compare(self, expr: ast.Compare) -> Value:
        """Lower a comparison. It may read an index, as whole numbers."""
        sides: list[Value | None] = []
        values = [self.value(operand) for operand in (expr.left, expr.right)]
        if any(isinstance(value, Poison) for value in values):
            return POISON
        if any(isinstance(value, (Text, Choice)) for value in values):
            return lower_comparison(values[0], values[1], expr, self.low)
        for operand, value in zip((expr.left, expr.right), values):
            is_index = isinstance(value, Tensor) and value.type.kind == "int"
            sides.append(value if is_index else self.as_number(value, operand))
        left, right = sides
        if not isinstance(left, Tensor) or not isinstance(right, Tensor):
            return POISON
        return self.low.map(COMPARISONS[expr.operator], left, right, span=expr.span)

    def _chain(self, expr: ast.Chain) -> Value:
        result = self.number(expr.operands[0])
        for operator, operand in zip(expr.operators, expr.operands[1:]):
            right = self.number(operand)
            if result is None or right is None:
                result = None
                continue
            if operator == "/":
                self._note_divisor(right, operand)
            span = expr.operands[0].span.to(operand.span)
            result = self.low.map(OPERATORS[operator], result, right, span=span)
        return POISON if result is None else result

    def _note_divisor(self, divisor: Tensor | None, expr: ast.Expr) -> None:
        if divisor is not None:
            self.low.divisors.append((divisor.ref, expr.span))

    def _field(self, expr: ast.FieldOf) -> Value:
        value = self.value(expr.value)
        if isinstance(value, Moments) and expr.field.name in ("mean", "var"):
            return value.mean if expr.field.name == "mean" else value.var
        fields: tuple[str, ...] = ("mean", "var") if isinstance(value, Moments) else ()
        if isinstance(value, Outputs):
            output_by_name = dict(value.by_name)
            if expr.field.name in output_by_name:
                return output_by_name[expr.field.name]
            fields = tuple(output_by_name)
        if isinstance(value, Tensor):
            before = state_before(value, expr.field, self.low)
            if before is not None:
                return before
            if is_scan(value, self.low):
                field = expr.field
                self.problems.add(UnknownField(field.span, field.name, (BEFORE,), "a scan"))
                return POISON
        if not isinstance(value, Poison):
            what = "moments" if isinstance(value, Moments) else "the result of this call"
            self.problems.add(UnknownField(expr.field.span, expr.field.name, fields, what))
        return POISON

    # ---- calls

    def _call(self, call: ast.Call) -> Value:
        name = call.function.name
        if name in FORMS:
            return self.forms.lower(call)
        if name in DRAWS:
            return self._draw(call)
        pools = call.over is not None
        if name in STATISTICS and (pools or name not in FUNCTIONS):
            return self.statistic(call)
        if name in FUNCTIONS:
            return lower_function_call(call, self)
        is_shared = name in self.scope.let_scopes and name in self.scope.names
        if (name in self.norms or is_shared) and self.call_norm is not None:
            return self._call_norm(call)
        capital = name[:1].isupper() and name.lower() not in CALLABLE
        known_names = tuple(sorted(self.norms if capital else CALLABLE))
        statistics = tuple(STATISTICS) if pools else ()
        meanings = {} if capital else {n: operations(n)[0].summary for n in known_names}
        span = call.function.span
        pooling = MATRICES[name].usage if name in MATRICES else ""
        self.problems.add(UnknownFunction(span, name, known_names, statistics, meanings, pooling))
        return POISON

    def _call_norm(self, call: ast.Call) -> Value:
        if call.dtype is not None:
            hint = f"round what comes out: `cast({call.function.name}(...))`"
            self.problems.add(MisplacedPart(call.dtype.span, "a dtype", hint))
            return POISON
        if call.over is not None or call.per is not None:
            self.problems.add(NeedsOver(call.function.span, call.function.name, needs=False))
            return POISON
        assert self.call_norm is not None
        return self.call_norm(call)

    def _draw(self, call: ast.Call) -> Value:
        """Lower a draw: of a call in training, or in the computation of an initial value."""
        draw = draw_of_call(call, self.scope, self.pools)
        return POISON if draw is None else self.low.emit(draw, call.span)

    def statistic(self, call: ast.Call) -> Value:
        """Lower a statistic, `moments` or `normalize` over a pool; a report gives `POISON`."""
        name = call.function.name
        if call.over is None:
            self.problems.add(NeedsOver(call.function.span, name))
            return POISON
        if call.dtype is not None:
            hint = f"round what comes out: `cast({name}(...) as {call.dtype.name.name})`"
            self.problems.add(MisplacedPart(call.dtype.span, "a dtype", hint))
            return POISON
        x = self.forms.only_argument(call)
        pool = self.pool(call.over, x)
        if x is None or pool is None:
            return POISON
        about = next((k for k in pool.keywords if k.name == "about"), None)
        centre = self.number(about.value) if about is not None and name == "var" else None
        if about is not None and name == "var" and centre is None:
            return POISON
        if centre is not None and not self._is_per_pool(centre, x, pool):
            about = next(k for k in pool.keywords if k.name == "about")
            reason = "`about` has axes that the result does not have"
            hint = "give the value that the mean would be: one for each pool"
            self.problems.add(BadOption(about.value.span, "about", name, reason, hint=hint))
            return POISON
        return self.statistics.statistic(name, x, pool, centre)

    def _is_per_pool(self, centre: Tensor, x: Tensor, pool: LoweredPool) -> bool:
        space = self.low.table.space
        weights = [self.low.types[r].axes for r in (pool.where, pool.weight) if r is not None]
        result = space.pooled_axes(space.join(x.type.axes, *weights), pool.over)
        return set(centre.type.axes) <= set(result)  # one for each pool, not for each element

    def pool(self, pool: ast.Pool, value: Tensor | None) -> LoweredPool | None:
        """Lower a pool with its mask and weights; `None` after a report."""
        over = self.pools.aggregation(pool, value)
        weights = {}
        for word, expr in (("where", pool.where), ("weight", pool.weight)):
            if expr is not None:
                ref = self.pools.condition(self.value(expr), expr)
                if ref is None:
                    return None
                if ref not in self.low.always_true:
                    weights[word] = ref
        if over is None:
            return None
        return LoweredPool(over, pool.span, **weights, tracked=pool.tracked, keywords=pool.keywords)

    def axis(self, expr: ast.Expr) -> tuple[str, ...] | None:
        """The axes of an axis argument, as in `size(*S)`; `None` after a report."""
        if not isinstance(expr, (ast.Name, ast.Spread)):
            hint = "write the name of an axis, as in `size(C)` or `size(*S)`"
            self.problems.add(WrongKind(expr.span, "an expression", "an axis", hint))
            return None
        return self.pools.resolve(build.axis_ref(expr), is_measured=True)
