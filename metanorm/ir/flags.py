"""Choices by a flag, which is a boolean hyperparameter: `where(flag, a, b)`."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.ir.index import closure
from metanorm.ir.nodes import Map, Number, Op, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.scalar import Hyper


def flag_of(op: Op, ops: Mapping[Ref, Op], flags: frozenset[str]) -> str | None:
    """The flag of a choice; `None` for any other operation."""
    if not isinstance(op, Map) or op.function != "where":
        return None
    condition = ops.get(op.arguments[0])
    if isinstance(condition, Number) and isinstance(condition.value, Hyper):
        return condition.value.name if condition.value.name in flags else None
    return None


def flags_of(program: Program) -> frozenset[str]:
    """The boolean hyperparameters."""
    return frozenset(a.name for a in program.arguments if a.type == "bool")


def choosing_flags(program: Program) -> tuple[str, ...]:
    """The flags by which a program chooses, in the order of the constructor."""
    ops, flags = program.index.ops, flags_of(program)
    used = {flag_of(op, ops, flags) for op in ops.values()}
    return tuple(a.name for a in program.arguments if a.name in used)


def reachable_with_flag(program: Program, flag: str, value: bool) -> set[Ref]:
    """The bindings that outputs and updates depend on if a flag has this value."""
    ops, flags = program.index.ops, frozenset({flag})

    def reads(ref: Ref) -> tuple[Ref, ...]:
        op = ops[ref]
        if isinstance(op, Map) and flag_of(op, ops, flags) is not None:
            return (op.arguments[1 if value else 2],)
        return tuple(operands(op))

    updates = program.updates
    roots = [*(ref for _, ref in program.outputs), *(update.value for update in updates)]
    return closure([*roots, *(u.elements for u in updates if u.elements)], reads)
