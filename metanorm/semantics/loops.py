"""Lowering of `repeat`: a name that its body assigns is carried, or local to one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.structure import UnboundedRepeat
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Repeat
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.names_in_ast import names_in
from metanorm.semantics.reserved import check_name
from metanorm.semantics.values import POISON, Entity, PoolOnly, Tensor, Value
from metanorm.source import Span
from metanorm.syntax import ast

if TYPE_CHECKING:
    from metanorm.semantics.statements import Statements


class Loops:
    """Lowers the loops of one norm."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.low, self.scope = statements.low, statements.scope
        self.problems = statements.problems
        self.expressions = statements.expressions

    def repeat(self, statement: ast.Repeat) -> None:
        """Lower a loop. It carries names that exist before it; other names are local to one run."""
        count = self._count(statement.count)
        carried: dict[str, Tensor] = {}
        temporary: set[str] = set()
        for position, assignment in enumerate(statement.body):
            name = assignment.name.name
            if name in carried or name in temporary:
                continue
            entity = self.scope.names.find(name)
            if entity is None and self._is_read(name, statement.body[position:]):
                check_name(assignment.name, self.problems)
                temporary.add(name)
                continue
            if entity is None or entity.role != "value" or isinstance(entity.value, PoolOnly):
                value_names = tuple(n for n, e in self.scope.names if e.role == "value")
                hint = "only values of a `let` change from step to step"
                self.statements.report_not_a(assignment.name, entity, "a value", value_names, hint)
                return
            initial = self.expressions.as_number(entity.value, assignment.name)
            if initial is None:
                return
            carried[name] = initial
        if count is None or not carried:
            if temporary and not carried:
                self._report_no_carried_value(statement.body[0])
            return
        self._loop(statement.body, statement.span, count, carried)

    def _is_read(self, name: str, body: tuple[ast.Assignment, ...]) -> bool:
        """Whether a run reads the name that it assigns; if not, the name is likely a mistake."""
        return any(name in names_in(later.value) for later in body[1:])

    def _report_no_carried_value(self, first: ast.Assignment) -> None:
        value_names = tuple(n for n, e in self.scope.names if e.role == "value")
        self.problems.add(UnknownName(first.name.span, first.name.name, value_names))

    def _loop(
        self,
        body: tuple[ast.Assignment, ...],
        span: Span,
        count: Scalar,
        carried: dict[str, Tensor],
    ) -> None:
        """Lower the body, in which the carried names have the values of the previous run."""
        outer = self.low.enter_body()
        carried_refs: list[str] = []
        for name, initial in carried.items():
            ref = self.low.unique(f"%{name}")
            self.low.types[ref] = initial.type
            carried_refs.append(ref)
            self.scope.names.replace(name, Tensor(ref, initial.type))
        last = {assignment.name.name: assignment for assignment in body}
        result_by_name = dict(carried)
        failed = False
        for assignment in body:
            value = self.expressions.number(assignment.value)
            failed = failed or value is None
            self._assign(assignment.name, POISON if value is None else value)
            if assignment.name.name in carried and value is not None:
                result_by_name[assignment.name.name] = value
        for name, initial in carried.items():
            if result_by_name[name].type != initial.type:
                actual = f"one on {listing(result_by_name[name].type.axes) or 'no axes'}"
                expected = f"a value on {listing(initial.type.axes) or 'no axes'}, as it began"
                hint = f"begin with `let {name}[...] = ...`, with all axes"
                problem = WrongKind(last[name].value.span, actual, expected, hint)
                self.problems.add(problem)
                failed = True
        results = [result_by_name[name].ref for name in carried]
        body_lets = self.low.leave_body(outer)
        for name in last:
            if name in carried:
                self.scope.names.replace(name, POISON)
            else:
                self.scope.names.leave(name)
        if failed:
            return
        initial_refs = tuple(t.ref for t in carried.values())
        for position, name in enumerate(carried):
            op = Repeat(
                count, tuple(carried_refs), initial_refs, body_lets, tuple(results), position
            )
            tensor = self.low.rename(self.low.emit(op, span), self.low.unique(name))
            self.scope.names.replace(name, tensor)

    def _assign(self, name: ast.Identifier, value: Value) -> None:
        """Bind a name to the value of a run."""
        if name.name in self.scope.names:
            self.scope.names.replace(name.name, value)
        else:
            self.scope.names.enter(name.name, Entity("value", name.span, value, warns=False))

    def _count(self, expr: ast.Expr) -> Scalar | None:
        if isinstance(expr, ast.Number) and expr.value == int(expr.value) and expr.value < 2**31:
            return Const(expr.value)
        if isinstance(expr, ast.Name) and self.scope.hyper_sorts.get(expr.name) == "int":
            self.scope.names.find(expr.name)
            return self.scope.hypers[expr.name]
        if not isinstance(expr, ast.Missing):
            self.problems.add(UnboundedRepeat(expr.span))
        return None
