"""The values that depend on another one, in some call or in every call.

A pass may compute a value from another one if whatever reads the value depends on that other one in
every call. Then no call computes more, and a NaN spreads no further.
"""

from __future__ import annotations

from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.nodes import Mode, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program


def dependents(program: Program, source: Ref) -> frozenset[Ref]:
    """The bindings that depend on `source` in some call, itself among them."""
    dependent_refs = {source}
    for let in program.body:
        if not dependent_refs.isdisjoint(operands(let.op)):
            dependent_refs.add(let.name)
    return frozenset(dependent_refs)


def constant_dependents(program: Program, source: Ref) -> frozenset[Ref]:
    """The bindings that depend on `source` in every call, itself among them: of a choice by a mode
    or by a flag, both branches do."""
    ops, flags = program.index.ops, flags_of(program)
    dependent_refs = {source}
    for let in program.body:
        refs = operands(let.op)
        if isinstance(let.op, Mode) or flag_of(let.op, ops, flags) is not None:
            depends = set(refs[-2:]) <= dependent_refs
        else:
            depends = not dependent_refs.isdisjoint(refs)
        if depends:
            dependent_refs.add(let.name)
    return frozenset(dependent_refs)
