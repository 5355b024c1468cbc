"""Lowering of the statements of one norm, in order. Its clauses are equations by now."""

from __future__ import annotations

from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Buffer, Expand
from metanorm.ir.program import Update
from metanorm.semantics.declared_axes import DeclaredAxes
from metanorm.semantics.expressions import Expressions
from metanorm.semantics.inputs import InputLowering
from metanorm.semantics.loops import Loops
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.outputs import OutputLowering
from metanorm.semantics.params_and_buffers import StateLowering
from metanorm.semantics.reserved import check_name
from metanorm.semantics.values import POISON, Choice, Entity, Outputs, PoolOnly, Tensor, Text, Value
from metanorm.syntax import ast

UPDATE_MODES = ("train", "eval", "always")  # the calls that update a buffer


class Statements:
    """Lowers the statements of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.expressions = Expressions(low, scope)
        self.outputs = OutputLowering(low, scope, self.expressions)
        axes = DeclaredAxes(low, scope, self.expressions.pools)
        self.inputs = InputLowering(low, scope, axes)
        self.state = StateLowering(low, scope, axes, self.expressions)

    def lower(self, statement: ast.AnyStatement) -> None:
        """Lower a statement other than an input or an output, which have methods of their own."""
        match statement:
            case ast.Param():
                for item in statement.items:
                    self.state.param(item)
            case ast.Buffer():
                for buffer in statement.items:
                    self.state.buffer(buffer)
            case ast.Let():
                self._let(statement)
            case ast.Update():
                self._update(statement)
            case ast.Repeat():
                Loops(self).repeat(statement)
            case _:
                pass

    def _update(self, statement: ast.Update) -> None:
        entity = self.scope.names.find(statement.name.name)
        value = self.expressions.number(statement.value)
        if entity is None or entity.role != "buffer":
            buffer_names = tuple(n for n, e in self.scope.names if e.role == "buffer")
            name = statement.name.name
            hint = f"only buffers are updated: `buffer {name} = ...`"
            if entity is not None and entity.role == "parameter":
                hint += f"; a first batch decides about a parameter: `param {name} = 0 first e`"
            self.report_not_a(statement.name, entity, "a buffer", buffer_names, hint)
            return
        if value is None or not isinstance(entity.value, Tensor):
            return
        buffer = entity.value
        op = self.low.ops[buffer.ref]
        stored = op.name if isinstance(op, Buffer) else buffer.ref
        space = self.low.table.space
        if not {space.base(a) for a in value.type.axes} <= set(buffer.type.axes):
            bases = [space.base(a) for a in value.type.axes]
            extra = [self.low.table.shown(a) for a in bases if a not in buffer.type.axes]
            actual = f"a value with axis `{extra[0]}`"
            expected = f"a value on the axes of `{statement.name.name}`"
            hint = f"pool it away: `mean(... over {extra[0]})`"
            self.problems.add(WrongKind(statement.value.span, actual, expected, hint))
            return
        when = statement.mode.name if statement.mode is not None else "train"
        if statement.mode is not None and when not in UPDATE_MODES:
            expected = f"{listing(UPDATE_MODES, 'or')}"
            hint = "an update happens in training, `in eval`, or `in always`, which is both"
            self.problems.add(WrongKind(statement.mode.span, f"`{when}`", expected, hint))
            return
        if any(
            update.buffer == stored and (update.when == when or "always" in (update.when, when))
            for update in self.low.updates
        ):
            actual, expected = (
                f"a second one of `{statement.name.name}`",
                "one `update` for each buffer and mode",
            )
            hint = "only one could be stored: make them one"
            self.problems.add(WrongKind(statement.span, actual, expected, hint))
            return
        self.low.updates.append(Update(stored, value.ref, when=when))  # type: ignore[arg-type]

    def _let(self, statement: ast.Let) -> None:
        name = statement.name
        check_name(name, self.problems)
        self.scope.let_name = name.name
        self.scope.let_call = statement.value if isinstance(statement.value, ast.Call) else None
        value = self.expressions.value(statement.value)
        if isinstance(value, Outputs) and statement.dims:
            value = value.first
        if isinstance(value, (PoolOnly, Text, Choice)):
            self.expressions.as_number(value, statement.value)
            value = POISON
        axes: tuple[str, ...] = ()
        if isinstance(value, Tensor):
            if statement.dims:
                value, axes = self._with_axes(statement, value)
            if isinstance(value, Tensor):
                named_value = self.low.rename(value, self.low.unique(self.scope.prefix + name.name))
                if axes and named_value != value:
                    self.low.written_axes[named_value.ref] = axes
                value = named_value
        self.scope.let_name, self.scope.let_call = "", None
        generated = statement.span == statement.name.span
        entity = Entity("value", name.span, value, warns=not generated, axes=axes)
        self.scope.names.enter(name.name, entity)

    def _with_axes(self, statement: ast.Let, value: Tensor) -> tuple[Value, tuple[str, ...]]:
        """`let d[N] = 1`: the value expanded to exactly these axes, and the axes in this order."""
        axes: list[str] = []
        if not self.low.table.are_distinct([dim.axis for dim in statement.dims]):
            return POISON, ()
        for dim in statement.dims:
            resolved = self.expressions.pools.resolve(dim.axis)
            if resolved is None:
                return POISON, ()
            axes += resolved
        surplus = [a for a in value.type.axes if a not in axes]
        if surplus:
            expected = f"a value on {listing(axes)}"
            base = self.low.table.space.base(surplus[0])
            shown = self.low.table.shown(base)
            actual = f"one with axis `{shown}`"
            hint = f"pool it away: `mean(... over {shown})`"
            if base in axes:
                actual = f"one for each cell of axis `{shown}`"
                hint = (
                    "leave out the axes behind the name: cells are spread where they meet "
                    f"positions of `{shown}`, and `output cells(m)` has a row for each"
                )
            self.problems.add(WrongKind(statement.value.span, actual, expected, hint))
            return POISON, ()
        ordered = self.low.table.space.ordered(axes)
        if ordered == value.type.axes:
            return value, tuple(axes)
        return self.low.emit(Expand(value.ref, ordered), statement.span), tuple(axes)

    def report_not_a(
        self,
        name: ast.Identifier,
        entity: Entity | None,
        expected: str,
        known_names: tuple[str, ...],
        hint: str,
    ) -> None:
        """Report a name that is unknown, or that denotes something else than expected."""
        if entity is None:
            self.problems.add(UnknownName(name.span, name.name, known_names))
        else:
            actual = f"the {entity.role} `{name.name}`"
            self.problems.add(WrongKind(name.span, actual, expected, hint))
