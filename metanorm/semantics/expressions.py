"""Lowering of expressions. A part with an error is reported once, and poisons what contains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Union

from metanorm.diagnostics.axes import BadRename
from metanorm.diagnostics.functions import UnknownFunction
from metanorm.diagnostics.names import UnknownField, UnknownName
from metanorm.diagnostics.statistics import BadOption, NeedsOver
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.syntax import MisplacedPart
from metanorm.diagnostics.values import CannotLookUp, MisplacedDraw, WrongKind
from metanorm.ir.nodes import Equal, Lookup, Rename
from metanorm.ir.ops import (
    CALLABLE,
    COMPARISONS,
    DRAWS,
    FORMS,
    FUNCTIONS,
    OPERATORS,
    STATISTICS,
    operations,
)
from metanorm.ir.scalar import SizeOf
from metanorm.semantics.choices import lower_comparison
from metanorm.semantics.draws import axes_of_draw, draw_from_ast
from metanorm.semantics.forms import Forms
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.pieces import piece_named, take_piece
from metanorm.semantics.pools import LoweredPool, PoolLowering
from metanorm.semantics.statistics import Statistics
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

Subscript = Union[ast.Rename, ast.At, ast.Expr]
MAX_POSITION = 2**31


class Expressions:
    """Lowers the expressions of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.pools = PoolLowering(low, scope)
        self.statistics = Statistics(low, scope, self.pools, self.number)
        self.forms = Forms(self)
        self.norms: tuple[str, ...] = ()  # the norms that can be called
        self.call_norm: Callable[[ast.Call], Value] | None = None

    # ---- values and numbers

    def number(self, expr: ast.Expr) -> Tensor | None:
        """The value of an expression as a number; `None` after a report."""
        return self.as_number(self.value(expr), expr)

    def as_number(self, value: Value, expr: ast.Expr) -> Tensor | None:
        """A value as a number; `None` after a report."""
        if isinstance(value, Outputs):
            return value.first
        if isinstance(value, Tensor) and value.type.kind != "int":
            return value
        if isinstance(value, Tensor):
            hint = (
                "an index chooses rows of a table, `table[label]`, pools, `over N: label`, or is "
                "compared, `position(T) < lengths`"
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
                return self._index(expr)
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
        known_names = (*self.scope.names.all(), *literals)
        is_axis = expr.name in self.low.table.declared
        later = self.scope.introduced_later.get(expr.name)
        rows = operations(expr.name) if expr.name in CALLABLE else []
        usage = rows[0].usage if rows else ""
        self.problems.add(UnknownName(expr.span, expr.name, known_names, later, is_axis, usage))
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
        if not isinstance(value, Poison):
            what = "moments" if isinstance(value, Moments) else "the result of this call"
            self.problems.add(UnknownField(expr.field.span, expr.field.name, fields, what))
        return POISON

    # ---- brackets

    def _index(self, expr: ast.Index) -> Value:
        value: Value = self.value(expr.value)
        for subscript in self._ordered_subscripts(expr, value):
            tensor = self.as_number(value, expr.value)
            if tensor is None:
                return POISON
            if isinstance(subscript, ast.Rename):
                value = self._rename(tensor, subscript)
            elif isinstance(subscript, ast.At):
                value = self._look_up_position(tensor, subscript)
            elif (piece := piece_named(subscript, self.scope, self.low)) is not None:
                value = take_piece(tensor, piece, subscript, self.low)
            else:
                value = self._lookup(tensor, subscript, expr)
        return value

    def _ordered_subscripts(self, expr: ast.Index, value: Value) -> list[Subscript]:
        """The subscripts in an order in which they can be applied one by one.

        The renames of one bracket happen at once. So `a[O -> P, P -> Q]` renames P first, and the
        transpose `a[O -> P, P -> O]` goes through a temporary axis.
        """
        renames = [s for s in expr.subscripts if isinstance(s, ast.Rename)]
        if len(renames) < 2 or len(renames) < len(expr.subscripts):
            return list(expr.subscripts)
        space = self.low.table.space
        value_axes = (
            {space.base(a) for a in value.type.axes} if isinstance(value, Tensor) else set()
        )
        if not all(
            set(self.pools.resolve(s.old, quiet=True) or ("",)) <= value_axes for s in renames
        ):
            return list(renames)
        ordered: list[Subscript] = []
        deferred: list[Subscript] = []
        while renames:
            olds = {s.old.name for s in renames}
            ready = next((s for s in renames if s.new.name not in olds - {s.old.name}), None)
            if ready is None:
                ready = renames[0]
                name = ready.new.name
                while name in self.low.table.declared or name in (self.scope.axes or {}):
                    name += "_"
                temporary = replace(ready.new, name=name)
                ordered.append(replace(ready, new=temporary))
                deferred.append(replace(ready, old=temporary))
            else:
                ordered.append(ready)
            renames.remove(ready)
        return [*ordered, *deferred]

    def _rename(self, tensor: Tensor, rename: ast.Rename) -> Value:
        old = self.pools.resolve(rename.old)
        if old is not None and len(old) == 1 and not rename.new.variadic:
            self._introduce_copy(rename.new, old[0])
        new = self.pools.resolve(rename.new) if old is not None else None
        if old is None or new is None:
            return POISON
        space = self.low.table.space
        axes = tensor.type.axes
        reason = ""
        if len(old) != 1 or len(new) != 1 or rename.old.variadic != rename.new.variadic:
            reason = "one is a single axis and the other is not"
        elif old[0] not in axes:
            reason = f"the value has no axis `{rename.old.name}`"
        elif new[0] in {space.base(a) for a in axes}:
            reason = f"the value has an axis `{rename.new.name}` already"
        if reason:
            names = rename.old.name, rename.new.name
            has = listing(self.low.table.shown(a) for a in self.low.dims(axes) if "/" not in a)
            hint = f"the axes of the value are {has}" if has else "the value is a single number"
            self.problems.add(BadRename(rename.span, *names, reason, hint))
            return POISON
        check = Equal(*space.ordered((old[0], new[0])))
        if check not in self.low.checks and space[new[0]].size != SizeOf(old[0]):
            self.low.checks.append(check)
        return self.low.emit(Rename(tensor.ref, old[0], new[0]), rename.span)

    def _introduce_copy(self, new: ast.AxisRef, old: str) -> None:
        """Introduce D in `v[C -> D]`, if there is none: an axis as long as C."""
        local = self.scope.axes
        if new.name not in (self.low.table.declared if local is None else local):
            name = self.low.table.copy_axis(new.name, old, new.span)
            if local is not None:
                local[new.name] = (name,)

    def _lookup(self, table: Tensor, subscript: ast.Expr, expr: ast.Index) -> Value:
        if isinstance(subscript, ast.Number):
            return self._look_up_item(table, subscript, expr)
        index = self.value(subscript)
        if isinstance(index, Poison):
            return POISON
        entity = self.scope.names.find(subscript.name) if isinstance(subscript, ast.Name) else None
        declared = entity.span if entity else None
        if not isinstance(index, Tensor) or index.type.kind != "int":
            reason = "the subscript is no index"
            hint = "an index is declared in the `input`: `label: index[N] of K = num_classes`"
            self.problems.add(CannotLookUp(subscript.span, reason, declared, hint))
            return POISON
        name = next(i for i in self.low.inputs if i.name == index.ref)
        if name.table is None:
            reason = f"`{name.name}` does not say which axis it chooses rows of"
            hint = f"declare it as `{name.name}: index[{', '.join(name.dims)}] of K = num_classes`"
            self.problems.add(CannotLookUp(subscript.span, reason, declared, hint))
            return POISON
        if name.table not in table.type.axes:
            reason = f"the table has no axis `{name.table}`"
            hint = f"a table has the axis that the index chooses from: `[{name.table}, C]`"
            self.problems.add(CannotLookUp(expr.value.span, reason, declared, hint))
            return POISON
        return self.low.emit(Lookup(table.ref, name.table, index.ref), expr.span)

    def _look_up_position(self, tensor: Tensor, at: ast.At) -> Value:
        """Lower `x[T = 0]`: one position of an axis. A negative one counts from the end."""
        axes = self.pools.resolve(at.axis, alone=True)
        position, sign = at.position, 1
        if isinstance(position, ast.Negative):
            position, sign = position.operand, -1
        if axes is None or isinstance(position, ast.Missing):
            return POISON
        space = self.low.table.space
        reason, span = "", at.position.span
        hint = "write a number: `x[T = 0]` is the first position, `x[T = -1]` the last"
        if not isinstance(position, ast.Number) or position.value != int(position.value):
            reason = "positions are whole numbers that are written out"
        elif position.value >= MAX_POSITION:
            reason = f"no axis has {position.text} positions"
        elif len(axes) != 1 or space[axes[0]].variadic or axes[0] not in tensor.type.axes:
            shown = [self.low.table.shown(a) for a in self.low.dims(tensor.type.axes)]
            has = listing(a for a in shown if "/" not in a)
            reason, span = f"the value has no axis `{at.axis.name}` of its own", at.axis.span
            hint = f"its axes are {has}" if has else "it is a single number"
        if reason or not isinstance(position, ast.Number):
            self.problems.add(CannotLookUp(span, reason, None, hint))
            return POISON
        size = getattr(space[axes[0]].size, "value", None)
        index = sign * int(position.value)
        if size is not None and not -size <= index < size:
            reason = f"axis `{at.axis.name}` has {int(size)} positions, counted from 0"
            self.problems.add(CannotLookUp(span, reason, None, hint))
            return POISON
        return self.low.emit(Lookup(tensor.ref, axes[0], index), at.span)

    def _look_up_item(self, table: Tensor, position: ast.Number, expr: ast.Index) -> Value:
        space = self.low.table.space
        axes = table.type.axes
        size = space[axes[0]].size if len(axes) == 1 else None
        length = getattr(size, "value", None)
        reason = ""
        if len(axes) != 1:
            reason = f"the value has {len(axes) or 'no'} axes, not one"
        elif position.value != int(position.value):
            reason = "positions are whole numbers"
        elif length is None:
            reason = f"the length of axis `{axes[0]}` is not written out"
        elif position.value >= length:
            reason = f"axis `{axes[0]}` has {int(length)} positions, counted from 0"
        if reason:
            hint = "a position is taken of a value with one axis of written length: `w[K = 3]`"
            self.problems.add(CannotLookUp(position.span, reason, None, hint))
            return POISON
        return self.low.emit(Lookup(table.ref, axes[0], int(position.value)), expr.span)

    # ---- calls

    def _call(self, call: ast.Call) -> Value:
        name = call.function.name
        if name in FORMS:
            return self.forms.lower(call)
        if name in DRAWS:
            return self._draw(call)
        pools = call.over is not None
        if name in STATISTICS and (pools or name not in FUNCTIONS):
            return self._statistic(call)
        if name in FUNCTIONS:
            return self.forms.function(call)
        is_shared = name in self.scope.let_scopes and name in self.scope.names
        if (name in self.norms or is_shared) and self.call_norm is not None:
            return self._call_norm(call)
        capital = name[:1].isupper() and name.lower() not in CALLABLE
        known_names = tuple(sorted(self.norms if capital else CALLABLE))
        statistics = tuple(STATISTICS) if pools else ()
        meanings = {} if capital else {n: operations(n)[0].summary for n in known_names}
        span = call.function.span
        self.problems.add(UnknownFunction(span, name, known_names, statistics, meanings))
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
        """Lower a draw in the computation of an initial value; report any other draw."""
        name = call.function.name
        if call.per is None or call.over is not None or self.low.target != "weight":
            hint = "begin a parameter or a buffer with it: `param p[C] = normal(0, 1)`"
            if self.low.target == "weight":
                hint = f"in what `init` computes, say for which positions: `{name}(0, 1 per O)`"
            self.problems.add(MisplacedDraw(call.span, name, hint))
            return POISON
        draw = draw_from_ast(call, self.scope, self.low)
        axes = axes_of_draw(call.per, call, self.pools)
        if draw is None or axes is None:
            return POISON
        return self.low.emit(replace(draw, axes=axes, number=len(self.low.types)), call.span)

    def _statistic(self, call: ast.Call) -> Value:
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
        return self.pools.resolve(build.axis_ref(expr))
