"""`repeat` as a loop: the values that it carries are variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.ir.nodes import Let, Ref, Repeat
from metanorm.targets.python.pyir import Assign, Expr, For, Name, Stmt, Tuple
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Value, call, method
from metanorm.targets.torch.lining import Lining


class LoopPrinter:
    """Prints the loops of one function. `emit` prints any binding."""

    def __init__(
        self, context: Context, lining: Lining, emit: Callable[[Let, list[Stmt]], None]
    ) -> None:
        self.c = context
        self.lining = lining
        self.emit = emit

    def repeat(self, let: Let, op: Repeat, out: list[Stmt]) -> None:
        """One loop for all values that it carries."""
        carried = [self._last(let, op, position) for position in range(len(op.initial))]
        variables = [
            self._variable(initial, last, carried, inside)
            for initial, last, inside in zip(op.initial, carried, op.inside)
        ]
        for initial, inside, variable in zip(op.initial, op.inside, variables):
            first = self._whole(initial, self.c.lets[initial].type.axes)
            if first.expr != variable:
                out.append(Assign((variable,), first.expr))
            self.c.values[inside] = replace(first, expr=variable)
        if len(variables) == 1 and op.body and op.results == (op.body[-1].name,):
            self.c.hints[op.results[0]] = variables[0].text
        body: list[Stmt] = []
        for step in op.body:
            if step.name not in self.c.values:
                self.emit(step, body)
        body += self._next(op, variables)
        out.append(For(Name("_"), call("range", self.c.lengths.number(op.count)), tuple(body)))
        for inside, last in zip(op.inside, carried):
            if last is not None:
                self.c.values[last.name] = self.c.values[inside]

    def _last(self, let: Let, op: Repeat, position: int) -> Let | None:
        """The binding of a carried value after the loop, if anything needs it."""
        wanted = replace(op, position=position)
        return next((other for other in self.c.bodies[let.name] if other.op == wanted), None)

    def _variable(
        self, initial: Ref, last: Let | None, carried: list[Let | None], inside: Ref
    ) -> Name:
        """What a carried value is called: as it began, where nothing else needs what it was."""
        uses = 1 + sum(other is not None for other in carried)  # with that of the first step
        began = self.c.values[initial].expr
        if began == Name(initial) and initial in self.c.own and self.c.uses[initial] == uses:
            return Name(initial)
        return Name(self.c.name_of(inside if last is None else last.name, inside.lstrip("%")))

    def _next(self, op: Repeat, variables: list[Name]) -> list[Stmt]:
        """The variables as the next step begins with them."""
        changed: list[tuple[Expr, Expr]] = []
        for result, inside, variable in zip(op.results, op.inside, variables):
            value = self._whole(result, self.c.lets[inside].type.axes)
            if value.expr != variable:
                changed.append((variable, value.expr))
        if not changed:
            return []
        targets, values = zip(*changed)
        return [Assign(targets, values[0] if len(values) == 1 else Tuple(values, bare=True))]

    def _whole(self, ref: Ref, axes: tuple[str, ...]) -> Value:
        """A value as a tensor with all of its axes, so that each step finds the same."""
        value = self.c.counted(ref, self.c.present(ref))
        dims = tuple(Dim(axis) for axis in axes)
        if value.number:
            first = Name(self.c.first)
            expr = method(first, "new_full", self.c.lengths.shape(dims), value.expr)
            return Value(expr, dims)
        return self.lining.whole(value, axes)
