"""Builds the body of the program that a pass returns.

The builder binds equal operations once and applies the rules of `algebra` as it builds maps, so no
pass has to clean up after itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from metanorm.ir.nodes import Count, Expand, Let, Map, Number, Op, Pool, Ref, Repeat, Type
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program, Update
from metanorm.ir.reachable import reachable
from metanorm.ir.rename import map_operands, rename_bindings, role_of
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, type_of
from metanorm.passes.algebra import simplified
from metanorm.passes.integral import is_integral
from metanorm.source import Span


class Builder:
    """The new body, and a map from values of the old body to values of the new one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.space = Space(program.axes)
        self.declarations = Declarations(
            self.space, program.inputs, program.params, program.buffers
        )
        self.types: dict[Ref, Type] = {}
        self.ops: dict[Ref, Op] = {}
        self.value_map: dict[Ref, Ref] = {}  # a value of the old body to its new value
        self.integral: set[Ref] = set()  # values that are whole numbers for any data
        self._integers = {a.name for a in program.arguments if a.type in ("int", "size")}
        self._body: list[Let] = []
        self._ref_by_op: dict[Op, Ref] = {}
        self._used_names = set(_names_in(program.body))
        self._spec_names: dict[Ref, Ref] = {}  # by nameless value: its name in the spec
        self._count = 0
        self.span = program.body[0].span if program.body else Span("", 0, 0)

    # ---- binding

    def emit(self, op: Op, name: Ref = "") -> Ref:
        """Bind an operation on new values and return its name; an equal one is bound once.

        A name such as `%between` only says what the value is for.
        """
        if isinstance(op, Pool):
            op = self._with_pooled_axes(op)
        if op in self._ref_by_op:
            return self._ref_by_op[op]
        if not name or name in self.types or name.startswith("%"):
            name = self.fresh_name(name)
        type_ = type_of(op, self.types, self.declarations)
        self._body.append(Let(name, op, type_, self.span))
        self.types[name], self.ops[name], self._ref_by_op[op] = type_, op, name
        if is_integral(op, self.integral, self._integers):
            self.integral.add(name)
        return name

    def _with_pooled_axes(self, op: Pool) -> Pool:
        """The pool with its value expanded to all pooled axes: a rewritten value may lack some."""
        operands = [ref for ref in (op.value, op.where, op.weight) if ref is not None]
        joined = self.space.join(*(self.types[ref].axes for ref in operands))
        present = {*joined, *(self.space.base(axis) for axis in joined)}
        missing = tuple(axis for axis, _ in op.over if axis not in present)
        return replace(op, value=self.emit(Expand(op.value, missing))) if missing else op

    def fresh_name(self, hint: str = "") -> Ref:
        """A name that no value has; it contains the hint."""
        hint = role_of(hint)
        self._count += 1
        while (name := f"%{hint}.{self._count}" if hint else f"%{self._count}") in self._used_names:
            self._count += 1
        return name

    def number(self, value: float | Scalar) -> Ref:
        """Bind a scalar."""
        return self.emit(Number(Const(float(value)) if isinstance(value, (int, float)) else value))

    def constant_value(self, ref: Ref) -> float | None:
        """The number that a value is, where the compiler knows it."""
        op = self.ops.get(ref)
        return op.value.value if isinstance(op, Number) and isinstance(op.value, Const) else None

    def map(self, function: str, *arguments: Ref, name: Ref = "") -> Ref:
        """Bind an elementwise function, simplified."""
        simpler = simplified(function, arguments, self)
        return simpler if simpler is not None else self.emit(Map(function, arguments), name)

    # ---- copying the old body

    def copy(self, let: Let, op: Op | None = None) -> Ref:
        """Bind an old binding under its old name, if that is free: on new values, or as `op`."""
        self.span = let.span
        new_op = op if op is not None else map_operands(let.op, self.value_map)
        if isinstance(new_op, Map):
            ref = self.map(new_op.function, *new_op.arguments, name=let.name)
        else:
            ref = self.emit(new_op, let.name)
        self.value_map[let.name] = ref
        return ref

    def substitute(self, let: Let, ref: Ref) -> None:
        """Let the new value `ref` stand for an old binding. A name from the spec stays."""
        self.value_map[let.name] = ref
        says_more = not let.name.startswith("%") or (role_of(let.name) and not role_of(ref))
        if ref.startswith("%") and ref not in self._spec_names and says_more:
            self._spec_names[ref] = let.name

    def with_original_axes(self, output: Ref) -> Ref:
        """The new value of an old output, expanded to all axes of the old value."""
        ref = self.value_map.get(output, output)
        original = next((let.type.axes for let in self.program.body if let.name == output), ())
        present = {self.space.base(axis) for axis in self.types[ref].axes}
        missing = tuple(
            a for a in original if a in self.space and self.space.base(a) not in present
        )
        return self.emit(Expand(ref, missing)) if missing else ref

    def finish(
        self,
        outputs: Iterable[tuple[str, Ref]] | None = None,
        updates: Iterable[Update] | None = None,
    ) -> Program:
        """The program with the new body, without dead code."""
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
        names = {old: new for old, new in self._spec_names.items() if new not in self.types}
        return without_dead_code(rename_bindings(program, names))


def _names_in(body: Iterable[Let]) -> Iterator[Ref]:
    for let in every_let(body):
        yield let.name
        yield from let.op.inside if isinstance(let.op, Repeat) else ()


def without_dead_code(program: Program) -> Program:
    """The program without bindings that nothing reads, and without cell axes of no value."""
    live = reachable(program)
    body = tuple(let for let in program.body if let.name in live)
    lets = list(every_let(body))
    used = {axis for let in lets for axis in let.type.axes}
    used |= {a for let in lets if isinstance(let.op, (Pool, Count)) for a, _ in let.op.over}
    axes = tuple(a for a in program.axes if a.cells_of is None or a.name in used)
    return replace(program, body=body, axes=axes)
