"""Whether the samples of a batch affect each other."""

from __future__ import annotations

from metanorm.ir.aggregation import Grouping, Neighbours, index_of
from metanorm.ir.nodes import Let, Op, Pool
from metanorm.ir.operands import axes_read_elsewhere
from metanorm.ir.program import Equal, InputDecl, Program
from metanorm.ir.reachable import reachable
from metanorm.ir.space import Space


def crosses_samples(program: Program, evaluating: bool) -> list[Let]:
    """The pools across samples that the outputs depend on, and what else reads other samples.

    `leading_axis` enumerates samples. If an index without a table groups it, the groups are the
    samples.
    """
    first = program.inputs[0]
    if not first.dims or holds_pairs(program):
        return []
    space = program.index.space
    samples = set(space.leaves(leading_axis(first, space)))
    sample_indices = {i.name for i in program.inputs if i.names_groups}
    live = reachable(program, updates=False, evaluating=evaluating)

    def stays_in_sample(grouping: Grouping) -> bool:
        return isinstance(grouping, Neighbours) or index_of(grouping) in sample_indices

    def crosses(op: Op) -> bool:
        if not isinstance(op, Pool):
            return not samples.isdisjoint(axes_read_elsewhere(op))
        value_axes = {space.base(a) for a in program.index.types[op.value].axes}
        return any(a in samples & value_axes and not stays_in_sample(m) for a, m in op.over)

    return [let for let in program.body if let.name in live and crosses(let.op)]


def leading_axis(decl: InputDecl, space: Space) -> str:
    """The dimension of an input that enumerates samples: the first one whose length is not an
    argument of the constructor, as that of a fixed number of steps is."""
    return next((dim for dim in decl.dims if space[dim].size is None), decl.dims[0])


def holds_pairs(program: Program) -> bool:
    """Whether the first input has a value for each pair of positions, and so is one sample."""
    dims = program.inputs[0].dims
    equal = [{c.first, c.second} for c in program.checks if isinstance(c, Equal)]
    return any(dims[0] in pair and pair <= set(dims) for pair in equal if dims)


def sample_axes(program: Program) -> tuple[str, ...]:
    """The dimensions that enumerate samples: the leading axis of the first input, and of each input
    that defaults to the first one."""
    first = program.inputs[0]
    if program.target not in ("activation", "loss") or not first.dims or holds_pairs(program):
        return ()
    space = program.index.space
    defaulting = (i for i in program.inputs if i.default == first.name and i.dims)
    return tuple(dict.fromkeys(leading_axis(decl, space) for decl in (first, *defaulting)))
