"""Print `repeat` as a loop whose carried values are variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.ir.nodes import Let, Mode, Ref, Repeat
from metanorm.ir.operands import operands
from metanorm.targets.python.pyir import Assign, Expr, For, Name, Stmt, Tuple
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.contractions import Contractions
from metanorm.targets.torch.layout import Dim, Value, call, method


class LoopPrinter:
    """Prints the loops of one function. `emit` prints any binding."""

    def __init__(
        self,
        context: Context,
        broadcaster: Broadcaster,
        contractions: Contractions,
        emit: Callable[[Let, list[Stmt]], None],
    ) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.contractions = contractions
        self.emit = emit

    def repeat(self, let: Let, op: Repeat, out: list[Stmt]) -> None:
        """Print one loop for all values that it carries."""
        carried = [self._last(let, op, position) for position in range(len(op.initial))]
        variables = [
            self._variable(initial, last, carried, inside)
            for initial, last, inside in zip(op.initial, carried, op.inside)
        ]
        for initial, inside, variable in zip(op.initial, op.inside, variables):
            first = self._whole(initial, self.ctx.lets[initial].type.axes)
            if first.expr != variable:
                out.append(Assign((variable,), first.expr))
            self.ctx.values[inside] = replace(first, expr=variable)
        for position in _updated_in_place(op):
            self.ctx.variable_hints[op.results[position]] = variables[position].text
        self.contractions.prepare(op, out)
        body: list[Stmt] = []
        for step in op.body:
            if step.name not in self.ctx.values:
                self.emit(step, body)
        body += self._next(op, variables)
        out.append(For(Name("_"), call("range", self.ctx.lengths.number(op.count)), tuple(body)))
        for inside, last in zip(op.inside, carried):
            if last is not None:
                self.ctx.values[last.name] = self.ctx.values[inside]

    def _last(self, let: Let, op: Repeat, position: int) -> Let | None:
        """The binding of a carried value after the loop, if anything reads it."""
        same_loop = replace(op, position=position)
        return next((other for other in self.ctx.bodies[let.name] if other.op == same_loop), None)

    def _variable(
        self, initial: Ref, last: Let | None, carried: list[Let | None], inside: Ref
    ) -> Name:
        """The variable of a carried value: that of its initial value, if nothing else reads it."""
        uses = 1 + sum(other is not None for other in carried)  # with that of the first step
        began = self.ctx.values[initial].expr
        if (
            began == Name(initial)
            and initial in self.ctx.spec_names
            and self.ctx.last_use(initial, uses)
        ):
            return Name(initial)
        return Name(self.ctx.name_of(inside if last is None else last.name, inside.lstrip("%")))

    def _next(self, op: Repeat, variables: list[Name]) -> list[Stmt]:
        """The assignments that pass carried values to the next iteration."""
        statements: list[Stmt] = []
        changed: list[tuple[Name, Expr]] = []
        for result, inside, variable in zip(op.results, op.inside, variables):
            value = self._whole(result, self.ctx.lets[inside].type.axes)
            if value.expr != variable:
                changed.append((variable, value.expr))
        if len(changed) > 1:
            for index, (variable, expr) in enumerate(changed):
                if not isinstance(expr, Name):
                    new = Name(self.ctx.local(f"next_{variable.text}"))
                    statements.append(
                        Assign((new,), self.ctx.with_named_operands(expr, statements))
                    )
                    changed[index] = variable, new
        if changed:
            targets, values = zip(*changed)
            assigned = values[0] if len(values) == 1 else Tuple(values, bare=True)
            statements.append(Assign(targets, assigned))
        return statements

    def _whole(self, ref: Ref, axes: tuple[str, ...]) -> Value:
        """A value expanded to all of its axes, so that every iteration has the same shapes."""
        value = self.ctx.as_number(ref, self.ctx.not_none(ref))
        dims = tuple(Dim(axis) for axis in axes)
        if value.number:
            first = Name(self.ctx.first)
            expr = method(first, "new_full", self.ctx.lengths.shape(dims), value.expr)
            return Value(expr, dims)
        return self.broadcaster.expanded(value, axes)


def _updated_in_place(op: Repeat) -> list[int]:
    """The carried values that can be overwritten as soon as their next value is computed.

    Nothing later in the body reads the old value, not even through an inlined expression.
    """
    positions = {let.name: index for index, let in enumerate(op.body)}
    candidates = [p for p, ref in enumerate(op.results) if ref in positions]
    changed: set[Ref] = set()
    in_place = []
    for position in sorted(candidates, key=lambda p: positions[op.results[p]]):
        result = op.results[position]
        single = op.results.count(result) == 1
        choice = isinstance(op.body[positions[result]].op, Mode)
        if not choice and single and _is_dead_after(op, position, changed):
            changed.add(result)
            in_place.append(position)
    return in_place


def _is_dead_after(op: Repeat, position: int, changed: set[Ref]) -> bool:
    """Whether nothing after a result depends on the old value of its variable."""
    result = op.results[position]
    old = {op.inside[position]}
    after_result = False
    for let in op.body:
        reads = old.intersection(operands(let.op))
        if reads and after_result:
            return False
        if reads and let.name != result:
            old.add(let.name)
        after_result = after_result or let.name == result
    return not (old - changed).intersection(op.results)
