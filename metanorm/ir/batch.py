"""Whether the samples of a batch influence each other."""

from __future__ import annotations

from metanorm.ir.aggregation import ByIndex, Grouping, Neighbours
from metanorm.ir.nodes import Equal, Let, Pool, Program
from metanorm.ir.reachable import reachable


def crosses_samples(program: Program, evaluating: bool) -> list[Let]:
    """The statistics on which the outputs depend that pool across samples.

    The leading axis of the first input is the samples' axis; where an index without a
    table of its own groups it, the groups are the samples.
    """
    first = program.inputs[0]
    if not first.dims or holds_pairs(program):
        return []
    space = program.index.space
    samples = set(space.leaves(first.dims[0]))
    groups = {i.name for i in program.inputs if i.sort == "index" and i.table is None}
    reached = reachable(program, updates=False, evaluating=evaluating)

    def within(matrix: Grouping) -> bool:
        if isinstance(matrix, Neighbours):
            return True
        return isinstance(matrix, ByIndex) and matrix.index in groups

    found = []
    for let in program.body:
        if let.name in reached and isinstance(let.op, Pool):
            bases = {space.base(a) for a in program.index.types[let.op.value].axes}
            if any(a in samples & bases and not within(m) for a, m in let.op.over):
                found.append(let)
    return found


def holds_pairs(program: Program) -> bool:
    """Whether the first input has a value for each pair of positions: then it is one sample."""
    dims = program.inputs[0].dims
    equal = [{c.first, c.second} for c in program.checks if isinstance(c, Equal)]
    return any(dims[0] in pair and pair <= set(dims) for pair in equal if dims)


def sample_axes(program: Program) -> tuple[str, ...]:
    """The dimensions that enumerate samples: the leading one of the first input, and that of each
    input which is the first one where it is not given."""
    first = program.inputs[0]
    if program.target not in ("activation", "loss") or not first.dims or holds_pairs(program):
        return ()
    leading = [i.dims[0] for i in program.inputs if i.default == first.name and i.dims]
    return tuple(dict.fromkeys((first.dims[0], *leading)))
