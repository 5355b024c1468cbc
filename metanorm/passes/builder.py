"""Builds the body of a program that a pass returns.

Equal operations are bound once, and the rules of `algebra` apply as maps are
built, so that no pass has to clean up after itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from metanorm.ir.nodes import (
    Count,
    Expand,
    Let,
    Map,
    Number,
    Op,
    Pool,
    Program,
    Ref,
    Repeat,
    Type,
    Update,
)
from metanorm.ir.operands import every_let
from metanorm.ir.reachable import reachable
from metanorm.ir.rename import map_operands, rename_bindings, role_of
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, type_of
from metanorm.passes.algebra import simplified
from metanorm.passes.integral import is_integral
from metanorm.source import Span


class Builder:
    """The new body, and where the values of the old one went."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.space = Space(program.axes)
        self.declarations = Declarations(
            self.space, program.inputs, program.params, program.buffers
        )
        self.types: dict[Ref, Type] = {}
        self.ops: dict[Ref, Op] = {}
        self.value_map: dict[Ref, Ref] = {}  # old name to new name
        self.integral: set[Ref] = set()  # values that are whole numbers whatever the data is
        self._integers = {a.name for a in program.arguments if a.type in ("int", "size")}
        self._body: list[Let] = []
        self._bound: dict[Op, Ref] = {}
        self._taken = set(_names(program.body))
        self._better: dict[Ref, Ref] = {}  # names from the spec for nameless values
        self._count = 0
        self.span = program.body[0].span if program.body else Span("", 0, 0)

    # ---- binding

    def emit(self, op: Op, name: Ref = "") -> Ref:
        """Bind an operation on new names; one that is bound already is not bound again.

        A name such as `%between` only says what the value is for.
        """
        if isinstance(op, Pool):
            op = self._covered(op)
        if op in self._bound:
            return self._bound[op]
        if not name or name in self.types or name.startswith("%"):
            name = self.fresh_name(name)
        type_ = type_of(op, self.types, self.declarations)
        self._body.append(Let(name, op, type_, self.span))
        self.types[name], self.ops[name], self._bound[op] = type_, op, name
        if is_integral(op, self.integral, self._integers):
            self.integral.add(name)
        return name

    def _covered(self, op: Pool) -> Pool:
        """The pool, of a value that has all of its axes: a rewritten one may have lost some."""
        operands = [ref for ref in (op.value, op.where, op.weight) if ref is not None]
        joined = self.space.join(*(self.types[ref].axes for ref in operands))
        present = {*joined, *(self.space.base(axis) for axis in joined)}
        lost = tuple(axis for axis, _ in op.over if axis not in present)
        return replace(op, value=self.emit(Expand(op.value, lost))) if lost else op

    def fresh_name(self, hint: str = "") -> Ref:
        """A name that nothing has yet; a hint is kept in it."""
        hint = role_of(hint)
        self._count += 1
        while (name := f"%{hint}.{self._count}" if hint else f"%{self._count}") in self._taken:
            self._count += 1
        return name

    def number(self, value: float | Scalar) -> Ref:
        """A scalar."""
        return self.emit(Number(Const(float(value)) if isinstance(value, (int, float)) else value))

    def constant_value(self, ref: Ref) -> float | None:
        """The number that a value surely is."""
        op = self.ops.get(ref)
        return op.value.value if isinstance(op, Number) and isinstance(op.value, Const) else None

    def map(self, function: str, *arguments: Ref, name: Ref = "") -> Ref:
        """An elementwise function, simplified."""
        simpler = simplified(function, arguments, self)
        return simpler if simpler is not None else self.emit(Map(function, arguments), name)

    # ---- moving the old body over

    def copy(self, let: Let, op: Op | None = None) -> Ref:
        """Bind an old binding, with its operands moved or as `op`, under its old name if it can."""
        self.span = let.span
        moved = op if op is not None else map_operands(let.op, self.value_map)
        if isinstance(moved, Map):
            ref = self.map(moved.function, *moved.arguments, name=let.name)
        else:
            ref = self.emit(moved, let.name)
        self.value_map[let.name] = ref
        return ref

    def substitute(self, let: Let, ref: Ref) -> None:
        """The old value is now called `ref`; a name from the spec is kept."""
        self.value_map[let.name] = ref
        says_more = not let.name.startswith("%") or (role_of(let.name) and not role_of(ref))
        if ref.startswith("%") and ref not in self._better and says_more:
            self._better[ref] = let.name

    def with_original_axes(self, output: Ref) -> Ref:
        """What an old output is now, with all axes that it had."""
        ref = self.value_map.get(output, output)
        had = next((let.type.axes for let in self.program.body if let.name == output), ())
        there = {self.space.base(axis) for axis in self.types[ref].axes}
        lost = tuple(a for a in had if a in self.space and self.space.base(a) not in there)
        return self.emit(Expand(ref, lost)) if lost else ref

    def finish(
        self,
        outputs: Iterable[tuple[str, Ref]] | None = None,
        updates: Iterable[Update] | None = None,
    ) -> Program:
        """The program with the new body; what nothing needs any more is left out."""
        if outputs is None:
            outputs = [(name, self.with_original_axes(ref)) for name, ref in self.program.outputs]
        if updates is None:
            updates = [
                replace(u, value=self.value_map.get(u.value, u.value)) for u in self.program.updates
            ]
        program = replace(
            self.program,
            axes=tuple(self.space),
            body=tuple(self._body),
            outputs=tuple(outputs),
            updates=tuple(updates),
        )
        names = {old: new for old, new in self._better.items() if new not in self.types}
        return without_dead_code(rename_bindings(program, names))


def _names(body: Iterable[Let]) -> Iterator[Ref]:
    for let in every_let(body):
        yield let.name
        yield from let.op.inside if isinstance(let.op, Repeat) else ()


def without_dead_code(program: Program) -> Program:
    """The program without bindings that nothing needs, and without cell axes that no value has."""
    reached = reachable(program)
    body = tuple(let for let in program.body if let.name in reached)
    every = list(every_let(body))
    used = {axis for let in every for axis in let.type.axes}
    used |= {a for let in every if isinstance(let.op, (Pool, Count)) for a, _ in let.op.over}
    axes = tuple(a for a in program.axes if a.cells_of is None or a.name in used)
    return replace(program, body=body, axes=axes)
