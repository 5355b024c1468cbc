"""Choose the values that are printed inside the expression that reads them, without a variable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Let, Map, Ref
from metanorm.ir.operands import operands

# Functions that C prints as operators. They read each argument once.
OPERATORS = frozenset("add sub mul div neg".split())
LARGEST = 3  # operators of one expression, so that lines stay readable


def inlined_operators(lets: Sequence[Let], named: Collection[Ref]) -> set[Ref]:
    """The values that exactly one operator reads, among values of one loop body, in order.

    Values in `named` keep their variables, since other code reads them.
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
