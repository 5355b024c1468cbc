"""Builds the body of a program that a pass returns.

Equal operations are bound once, and the rules of `algebra` apply as maps are
built, so that no pass has to clean up after itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from metanorm.ir.nodes import (
    Count,
    Expand,
    Let,
    Lookup,
    Map,
    Mode,
    Number,
    Op,
    Pool,
    Program,
    Ref,
    Rename,
    Repeat,
    Stop,
    Type,
    Update,
)
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, type_of
from metanorm.passes.algebra import simplified
from metanorm.source import Span


class Builder:
    """The new body, and where the values of the old one went."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.space = Space(program.axes)
        self.known = Declarations(self.space, program.inputs, program.params, program.buffers)
        self.types: dict[Ref, Type] = {}
        self.ops: dict[Ref, Op] = {}
        self.moved: dict[Ref, Ref] = {}  # old name to new name
        self._body: list[Let] = []
        self._bound: dict[Op, Ref] = {}
        self._taken = {let.name for let in program.body}
        self._count = 0
        self.span = program.body[0].span if program.body else Span("", 0, 0)

    # ---- binding

    def emit(self, op: Op, name: Ref = "") -> Ref:
        """Bind an operation on new names; one that is bound already is not bound again."""
        if op in self._bound:
            return self._bound[op]
        name = name if name and name not in self.types else self._fresh()
        type_ = type_of(op, self.types, self.known)
        self._body.append(Let(name, op, type_, self.span))
        self.types[name], self.ops[name], self._bound[op] = type_, op, name
        return name

    def _fresh(self) -> Ref:
        self._count += 1
        while f"%{self._count}" in self._taken:
            self._count += 1
        return f"%{self._count}"

    def number(self, value: float | Scalar) -> Ref:
        """A scalar."""
        return self.emit(Number(Const(float(value)) if isinstance(value, (int, float)) else value))

    def constant(self, ref: Ref) -> float | None:
        """The number that a value surely is."""
        op = self.ops.get(ref)
        return op.value.value if isinstance(op, Number) and isinstance(op.value, Const) else None

    def map(self, function: str, *arguments: Ref, name: Ref = "") -> Ref:
        """An elementwise function, simplified."""
        simpler = simplified(function, arguments, self)
        return simpler if simpler is not None else self.emit(Map(function, arguments), name)

    # ---- moving the old body over

    def take(self, let: Let, op: Op | None = None) -> Ref:
        """Bind an old binding, with its operands moved or as `op`, under its old name if it can."""
        self.span = let.span
        moved = op if op is not None else renamed(let.op, self.moved)
        if isinstance(moved, Map):
            ref = self.map(moved.function, *moved.arguments, name=let.name)
        else:
            ref = self.emit(moved, let.name)
        self.moved[let.name] = ref
        return ref

    def forward(self, let: Let, ref: Ref) -> None:
        """The old value is now called `ref`; the better of the two names is kept."""
        self.moved[let.name] = self._adopt(ref, let.name)

    def _adopt(self, ref: Ref, name: Ref) -> Ref:
        if not ref.startswith("%") or name.startswith("%") or name in self.types:
            return ref
        last = self._body[-1]
        if last.name != ref:
            return ref
        self._body[-1] = replace(last, name=name)
        self.types[name], self.ops[name] = self.types.pop(ref), self.ops.pop(ref)
        self._bound[last.op] = name
        return name

    def finish(
        self,
        outputs: Iterable[tuple[str, Ref]] | None = None,
        updates: Iterable[Update] | None = None,
    ) -> Program:
        """The program with the new body; what nothing needs any more is left out."""
        if outputs is None:
            outputs = [(name, self.moved.get(ref, ref)) for name, ref in self.program.outputs]
        if updates is None:
            updates = [
                replace(u, value=self.moved.get(u.value, u.value)) for u in self.program.updates
            ]
        program = replace(
            self.program,
            axes=tuple(self.space),
            body=tuple(self._body),
            outputs=tuple(outputs),
            updates=tuple(updates),
        )
        return without_dead(program)


def without_dead(program: Program) -> Program:
    """The program without bindings that nothing needs, and without cell axes that no value has."""
    reached = reachable(program)
    body = tuple(let for let in program.body if let.name in reached)
    used = {axis for let in body for axis in let.type.axes}
    used |= {a for let in body if isinstance(let.op, (Pool, Count)) for a, _ in let.op.over}
    axes = tuple(a for a in program.axes if a.cells_of is None or a.name in used)
    return replace(program, body=body, axes=axes)


def renamed(op: Op, names: Mapping[Ref, Ref]) -> Op:
    """The operation on other names; names that are not listed stay."""
    to: Callable[[Ref], Ref] = lambda ref: names.get(ref, ref)  # noqa: E731
    match op:
        case Map(function, arguments):
            return Map(function, tuple(to(a) for a in arguments))
        case Pool():
            return replace(
                op,
                value=to(op.value),
                where=op.where and to(op.where),
                weight=op.weight and to(op.weight),
                about=op.about and to(op.about),
            )
        case Count():
            where, weight = op.where and to(op.where), op.weight and to(op.weight)
            return replace(op, where=where, weight=weight)
        case Lookup():
            index = op.index if isinstance(op.index, int) else to(op.index)
            return replace(op, table=to(op.table), index=index)
        case Rename() | Expand() | Stop():
            return replace(op, value=to(op.value))
        case Mode():
            return replace(op, train=to(op.train), eval=to(op.eval))
        case Repeat():
            inner = {k: v for k, v in names.items() if k not in op.inside}
            body = tuple(replace(let, op=renamed(let.op, inner)) for let in op.body)
            return replace(
                op,
                initial=tuple(to(r) for r in op.initial),
                body=body,
                results=tuple(inner.get(r, r) for r in op.results),
            )
        case _:
            value = getattr(op, "value", None)
            return replace(op, value=to(value)) if isinstance(value, str) else op  # type: ignore[call-arg]
