"""`repeat` as a loop: the values that it carries are variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.ir.nodes import Let, Mode, Ref, Repeat
from metanorm.ir.operands import operands
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
        for position in _in_place(op):
            self.c.hints[op.results[position]] = variables[position].text
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
        if began == Name(initial) and initial in self.c.own and self.c.last_use(initial, uses):
            return Name(initial)
        return Name(self.c.name_of(inside if last is None else last.name, inside.lstrip("%")))

    def _next(self, op: Repeat, variables: list[Name]) -> list[Stmt]:
        """The variables as the next step begins with them, where they are not yet."""
        done: list[Stmt] = []
        changed: list[tuple[Name, Expr]] = []
        for result, inside, variable in zip(op.results, op.inside, variables):
            value = self._whole(result, self.c.lets[inside].type.axes)
            if value.expr != variable:
                changed.append((variable, value.expr))
        if len(changed) > 1:
            for place, (variable, expr) in enumerate(changed):
                if not isinstance(expr, Name):
                    new = Name(self.c.local(f"next_{variable.text}"))
                    done.append(Assign((new,), self.c.broken(expr, done)))
                    changed[place] = variable, new
        if changed:
            targets, values = zip(*changed)
            both = values[0] if len(values) == 1 else Tuple(values, bare=True)
            done.append(Assign(targets, both))
        return done

    def _whole(self, ref: Ref, axes: tuple[str, ...]) -> Value:
        """A value as a tensor with all of its axes, so that each step finds the same."""
        value = self.c.counted(ref, self.c.present(ref))
        dims = tuple(Dim(axis) for axis in axes)
        if value.number:
            first = Name(self.c.first)
            expr = method(first, "new_full", self.c.lengths.shape(dims), value.expr)
            return Value(expr, dims)
        return self.lining.whole(value, axes)


def _in_place(op: Repeat) -> list[int]:
    """The carried values that may change as soon as the next ones are known.

    Nothing that is computed later reads what they were, not even by way of an expression that has
    no name and is written where it is read.
    """
    places = {let.name: place for place, let in enumerate(op.body)}
    known = [p for p, ref in enumerate(op.results) if ref in places]
    changed: set[Ref] = set()
    found = []
    for position in sorted(known, key=lambda p: places[op.results[p]]):
        result = op.results[position]
        single = op.results.count(result) == 1
        choice = isinstance(op.body[places[result]].op, Mode)
        if not choice and single and _is_past(op, position, changed):
            changed.add(result)
            found.append(position)
    return found


def _is_past(op: Repeat, position: int, changed: set[Ref]) -> bool:
    """Whether nothing behind a result, which is not `changed` itself, depends on what it was."""
    result = op.results[position]
    old = {op.inside[position]}
    behind = False
    for let in op.body:
        reads = old.intersection(operands(let.op))
        if reads and behind:
            return False
        if reads and let.name != result:
            old.add(let.name)
        behind = behind or let.name == result
    return not (old - changed).intersection(op.results)
