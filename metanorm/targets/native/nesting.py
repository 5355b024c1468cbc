"""Which values are written inside of the expression that reads them, and need no name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Let, Map, Ref
from metanorm.ir.operands import operands

# Functions that are written as operators: each reads its arguments once.
OPERATORS = frozenset("add sub mul div neg".split())
LARGEST = 3  # operators of one expression, so that a line is read at one glance


def nested(lets: Sequence[Let], named: Collection[Ref]) -> set[Ref]:
    """Of values that are computed together, in order, those that one operator alone reads.

    `named` are read elsewhere too.
    """
    read = Counter(ref for let in lets for ref in operands(let.op))
    operators: dict[Ref, int] = {}
    for let in lets:
        if isinstance(let.op, Map) and let.op.function in OPERATORS and let.type.kind == "real":
            operators[let.name] = 1
    found: set[Ref] = set()
    for let in lets:
        if let.name not in operators:
            continue
        for ref in operands(let.op):
            both = operators[let.name] + operators.get(ref, LARGEST)
            if read[ref] == 1 and ref not in named and both <= LARGEST:
                operators[let.name] = both
                found.add(ref)
    return found
