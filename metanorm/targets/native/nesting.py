"""Which values are written inside of the expression that reads them, and need no name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Let, Map, Ref
from metanorm.ir.operands import operands

# Functions that are written as operators: each reads its arguments once.
OPERATORS = frozenset("add sub mul div neg".split())
LARGEST = 3  # operators of one expression, so that a line is read at one glance


def inlined_operators(lets: Sequence[Let], named: Collection[Ref]) -> set[Ref]:
    """Of values that are computed together, in order, those that one operator alone reads.

    `named` are read elsewhere too.
    """
    read_counts = Counter(ref for let in lets for ref in operands(let.op))
    operator_counts: dict[Ref, int] = {}
    for let in lets:
        if isinstance(let.op, Map) and let.op.function in OPERATORS and let.type.kind == "real":
            operator_counts[let.name] = 1
    inlined: set[Ref] = set()
    for let in lets:
        if let.name not in operator_counts:
            continue
        for ref in operands(let.op):
            operator_count = operator_counts[let.name] + operator_counts.get(ref, LARGEST)
            if read_counts[ref] == 1 and ref not in named and operator_count <= LARGEST:
                operator_counts[let.name] = operator_count
                inlined.add(ref)
    return inlined
