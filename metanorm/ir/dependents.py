"""The values that depend on another one, in some call or in every call.

A pass may compute a value from another one where the value, or what is made of it, depends on that
other one in every call: then no call has more to compute, and a NaN reaches nothing new.
"""

from __future__ import annotations

from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.nodes import Mode, Program, Ref
from metanorm.ir.operands import operands


def dependents(program: Program, source: Ref) -> frozenset[Ref]:
    """The bindings that depend on `source` in some call, itself among them."""
    found = {source}
    for let in program.body:
        if not found.isdisjoint(operands(let.op)):
            found.add(let.name)
    return frozenset(found)


def constant_dependents(program: Program, source: Ref) -> frozenset[Ref]:
    """The bindings that depend on `source` in every call, itself among them: of a choice by a mode
    or by a flag, both branches do."""
    ops, flags = program.index.ops, flags_of(program)
    found = {source}
    for let in program.body:
        refs = operands(let.op)
        if isinstance(let.op, Mode) or flag_of(let.op, ops, flags) is not None:
            depends = set(refs[-2:]) <= found
        else:
            depends = not found.isdisjoint(refs)
        if depends:
            found.add(let.name)
    return frozenset(found)
