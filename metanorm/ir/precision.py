"""Parameters that meet no statistic before something is computed of them.

Inputs are widened before they are used, and what is computed with them is as wide. A parameter in
half precision keeps its type until then, so that a softmax of parameters alone would be rounded.
So would the gradient of a statistic of a parameter, before it meets what it nearly cancels: that of
the parameter beside its own mean.
"""

from __future__ import annotations

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Detach,
    Expand,
    Input,
    Let,
    Lookup,
    Map,
    Param,
    Pool,
    Program,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands

PASSING = (Rename, Expand, Detach, Lookup)


def params_to_widen(program: Program) -> set[str]:
    """The names of parameters of which something is computed without inputs and buffers, or of
    which a statistic is taken."""
    known: set[Ref] = set()  # what depends on inputs or buffers, and is as wide as they are
    stored: dict[Ref, str] = {}  # parameters, and what is them in another order
    alone: set[str] = set()

    def walk(lets: tuple[Let, ...]) -> None:
        for let in lets:
            op, read = let.op, operands(let.op)
            if isinstance(op, Repeat):
                first = tuple(zip(op.inside, op.initial))
                known.update(inside for inside, ref in first if ref in known)
                stored.update((inside, stored[ref]) for inside, ref in first if ref in stored)
                walk(op.body)
            if isinstance(op, Param):
                stored[let.name] = op.name
            elif isinstance(op, PASSING) and read[0] in stored:  # an index is read, and not wide
                stored[let.name] = stored[read[0]]
            else:
                wide = isinstance(op, (Input, Buffer)) or any(ref in known for ref in read)
                if wide:
                    known.add(let.name)
                if isinstance(op, (AxisMap, Cast, Pool)) or (isinstance(op, Map) and not wide):
                    alone.update(stored[ref] for ref in read if ref in stored)

    walk(program.body)
    return alone
