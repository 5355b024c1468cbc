"""`repeat`: what its body assigns to is carried from step to step, or is of one step."""

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
        self.e = statements.e

    def repeat(self, statement: ast.Repeat) -> None:
        """A loop that carries what is there before it; what else it assigns to is of one step."""
        count = self._steps(statement.count)
        carried: dict[str, Tensor] = {}
        temporary: set[str] = set()
        for place, assignment in enumerate(statement.body):
            name = assignment.name.name
            if name in carried or name in temporary:
                continue
            entity = self.scope.names.find(name)
            if entity is None and self._is_read(name, statement.body[place:]):
                check_name(assignment.name, self.problems)
                temporary.add(name)
                continue
            if entity is None or entity.what != "value" or isinstance(entity.value, PoolOnly):
                known = tuple(n for n, e in self.scope.names if e.what == "value")
                hint = "only values of a `let` change from step to step"
                self.statements.not_a(assignment.name, entity, "a value", known, hint)
                return
            if not isinstance(entity.value, Tensor):
                return
            carried[name] = entity.value
        if count is None or not carried:
            if temporary and not carried:
                self._carries_nothing(statement.body[0])
            return
        self._loop(statement.body, statement.span, count, carried)

    def _is_read(self, name: str, body: tuple[ast.Assignment, ...]) -> bool:
        """Whether a step reads what it has assigned; else a name is not what was meant."""
        return any(name in names_in(later.value) for later in body[1:])

    def _carries_nothing(self, first: ast.Assignment) -> None:
        known = tuple(n for n, e in self.scope.names if e.what == "value")
        self.problems.add(UnknownName(first.name.span, first.name.name, known))

    def _loop(
        self,
        body: tuple[ast.Assignment, ...],
        span: Span,
        count: Scalar,
        carried: dict[str, Tensor],
    ) -> None:
        """Lower the body apart, with the carried names standing for the previous run."""
        outer = self.low.enter_body()
        inside: list[str] = []
        for name, initial in carried.items():
            ref = self.low.unique(f"%{name}")
            self.low.types[ref] = initial.type
            inside.append(ref)
            self.scope.names.replace(name, Tensor(ref, initial.type))
        last = {assignment.name.name: assignment for assignment in body}
        found = dict(carried)
        failed = False
        for assignment in body:
            value = self.e.number(assignment.value)
            failed = failed or value is None
            self._assign(assignment.name, POISON if value is None else value)
            if assignment.name.name in carried and value is not None:
                found[assignment.name.name] = value
        for name, initial in carried.items():
            if found[name].type != initial.type:
                found_text = f"one on {listing(found[name].type.axes) or 'no axes'}"
                expected = f"a value on {listing(initial.type.axes) or 'no axes'}, as it began"
                hint = f"begin with `let {name}[...] = ...`, with all axes"
                problem = WrongKind(last[name].value.span, found_text, expected, hint)
                self.problems.add(problem)
                failed = True
        results = [found[name].ref for name in carried]
        steps = self.low.leave_body(outer)
        for name in last:
            if name in carried:
                self.scope.names.replace(name, POISON)
            else:
                self.scope.names.leave(name)
        if failed:
            return
        initial_refs = tuple(t.ref for t in carried.values())
        for position, name in enumerate(carried):
            op = Repeat(count, tuple(inside), initial_refs, steps, tuple(results), position)
            tensor = self.low.rename(self.low.emit(op, span), self.low.unique(name))
            self.scope.names.replace(name, tensor)

    def _assign(self, name: ast.Identifier, value: Value) -> None:
        """A value of one step, under a name that it may have had before."""
        if name.name in self.scope.names:
            self.scope.names.replace(name.name, value)
        else:
            self.scope.names.enter(name.name, Entity("value", name.span, value, warns=False))

    def _steps(self, expr: ast.Expr) -> Scalar | None:
        if isinstance(expr, ast.Number) and expr.value == int(expr.value) and expr.value < 2**31:
            return Const(expr.value)
        if isinstance(expr, ast.Name) and self.scope.hyper_sorts.get(expr.name) == "int":
            self.scope.names.find(expr.name)
            return self.scope.hypers[expr.name]
        if not isinstance(expr, ast.Missing):
            self.problems.add(UnboundedRepeat(expr.span))
        return None
