"""Entries: further methods of a norm, which share its hyperparameters, parameters and buffers.

An entry is lowered like a norm of its own, into a program of its own. It begins with the axes and
names of the norm instead of declaring them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.structure import ComputesNothing, NotForTarget
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Buffer, Param
from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.ir.related_axes import axes_with_values, with_related
from metanorm.semantics.axes import Declared
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.reserved import check_name
from metanorm.semantics.values import POISON, Entity, EntityRole, PoolOnly, Tensor, Value
from metanorm.syntax import ast

SHARED: tuple[EntityRole, ...] = ("parameter", "buffer")  # entities of a norm that its entries read
OF_CALL: tuple[EntityRole, ...] = ("input", "value")  # and those of a call of the norm alone


def entries_of(norm: ast.Norm) -> list[ast.Entry]:
    """The entries of a norm, in order."""
    return [statement for statement in norm.statements if isinstance(statement, ast.Entry)]


def check_entries(norm: ast.Norm, scope: CallScope, low: Lowering) -> None:
    """Report entries that the target does not allow, and names that are taken."""
    seen = {name: entity.span for name, entity in scope.names}
    for entry in entries_of(norm):
        check_name(entry.name, low.problems, attribute=True)
        if not any(isinstance(statement, ast.Output) for statement in entry.statements):
            name = f"{norm.name.name}.{entry.name.name}"
            low.problems.add(ComputesNothing(entry.name.span, name))
        if low.target != "activation":
            hint = "only norms for activations are called by name"
            low.problems.add(NotForTarget(entry.name.span, low.target, "no entries", hint))
        if entry.name.name in seen:
            span = entry.name.span
            low.problems.add(DuplicateName(span, entry.name.name, seen[entry.name.name]))
        seen.setdefault(entry.name.name, entry.name.span)


def norm_of_entry(norm: ast.Norm, entry: ast.Entry) -> ast.Norm:
    """An entry as a norm, with the hyperparameters of the one that it belongs to."""
    name = replace(entry.name, name=f"{norm.name.name}.{entry.name.name}")
    inputs = ast.Input(span=entry.span, items=entry.inputs)
    statements = (inputs, *entry.statements) if entry.inputs else entry.statements
    return replace(
        norm, span=entry.span, name=name, statements=statements, trivia=entry.trivia, end=entry.end
    )


def share_axes(inner: Lowering, outer: Lowering) -> None:
    """Let an entry begin with the axes of its norm, and with what the constructor asks for."""
    for axis in outer.table.space:
        if axis.cells_of is None:
            inner.table.space.add(axis)
    for name, declared in outer.table.declared.items():
        inner.table.declared[name] = Declared(declared.span, declared.size_span, declared.free)
    inner.table.arguments = dict(outer.table.arguments)
    inner.table.cuts = {axis: list(cuts) for axis, cuts in outer.table.cuts.items()}
    inner.table.unsure = outer.table.unsure
    inner.flags = outer.flags
    inner.is_entry = True


def share_hypers(inner: Lowering, scope: CallScope, outer_scope: CallScope) -> None:
    """Let an entry read the hyperparameters of its norm."""
    scope.hypers, scope.hyper_sorts = dict(outer_scope.hypers), dict(outer_scope.hyper_sorts)
    for name, entity in outer_scope.names:
        if entity.role == "hyperparameter":
            value = entity.value
            if isinstance(value, Tensor):
                value = inner.number(scope.hypers[name], entity.span)
            scope.names.enter(name, Entity(entity.role, entity.span, value, warns=False))


def share_names(inner: Lowering, scope: CallScope, outer: Lowering, outer_scope: CallScope) -> None:
    """Let an entry read the parameters and buffers of its norm."""
    inner.params, inner.buffers = list(outer.params), list(outer.buffers)
    inner.switches = list(outer.switches)
    ops = {let.name: let.op for let in outer.body}
    entities = dict(outer_scope.names)
    scope.names_of_call = frozenset(n for n, e in entities.items() if e.role in OF_CALL)
    for name, entity in entities.items():
        if entity.role not in SHARED:
            continue
        value: Value = entity.value if isinstance(entity.value, PoolOnly) else POISON
        if isinstance(entity.value, Tensor):
            op = ops[entity.value.ref]
            if isinstance(op, (Param, Buffer)):
                value = inner.emit(op, entity.span, op.name)
        scope.names.enter(name, Entity(entity.role, entity.span, value, warns=False))


def note_uses(scope: CallScope, outer_scope: CallScope) -> None:
    """Count what an entry reads as used in its norm."""
    for name, entity in scope.names:
        if entity.used and name in outer_scope.names:
            outer_scope.names.find(name)


def check_adds_nothing(
    entry: ast.Entry, inner: Lowering, outer: Lowering, sizes: Sequence[str]
) -> None:
    """Report what an entry would have to add to the constructor of its norm."""
    added = [p.name for p in inner.params[len(outer.params) :]]
    added += [b.name for b in inner.buffers[len(outer.buffers) :]]
    if added:
        hint = "declare it in the norm, before the entry, which reads it by its name"
        actual = f"the parameter `{added[0]}`"
        expected = "what the norm has declared"
        inner.problems.add(WrongKind(entry.name.span, actual, expected, hint))
    new_sizes = [name for name in inner.table.arguments if name not in sizes]
    if new_sizes:
        axis = inner.table.arguments[new_sizes[0]].axes[0]
        hint = f"`size({axis})` is known in a call: compute with it outside of options"
        actual = f"the length of axis `{axis}`, which the constructor is not asked for"
        expected = "a number that the constructor knows"
        inner.problems.add(WrongKind(entry.name.span, actual, expected, hint))


def with_what_it_reads(program: Program) -> Program:
    """The program of an entry with those parameters, buffers and axes alone that it reads."""
    live = reachable(program)
    body = tuple(let for let in program.body if let.name in live)
    read = {let.op.name for let in body if isinstance(let.op, (Param, Buffer))}
    params = tuple(p for p in program.params if p.name in read)
    buffers = tuple(b for b in program.buffers if b.name in read)
    entry = replace(program, params=params, buffers=buffers, body=body)
    constructed = {axis.name for axis in program.axes if axis.size is not None}
    kept = axes_with_values(entry) | with_related(constructed, program.axes)
    return replace(entry, axes=tuple(axis for axis in program.axes if axis.name in kept))
