"""In which order the axes of an output come out: as they were declared, or as they came in."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.ir.nodes import (
    Buffer,
    Declaration,
    Input,
    Lookup,
    Map,
    Mode,
    Op,
    Param,
    Pool,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import every_let, operands
from metanorm.semantics.lowering import Lowering

Axes = tuple[str, ...]


class OutputOrders:
    """The orders of the dimensions of values, for what a norm puts out.

    A `let` with axes says them itself. Else a value has the order of the first of its operands
    that has all of its axes, down to the inputs, parameters and buffers, which are declared.
    """

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.space = low.table.space
        self.lets = {let.name: let for let in every_let(low.body)}
        declared: list[Declaration] = [*low.inputs, *low.params, *low.buffers]
        self.declared = {decl.name: decl.dims for decl in declared}
        self.known: dict[Ref, Axes] = {}
        for name in self.lets:  # in their order, so that operands are known and nothing nests
            self.of(name)

    def unsplit(self, ref: Ref) -> Axes:
        """The dimensions of a value, split axes unsplit."""
        return self.space.unsplit(self.of(ref))

    def of(self, ref: Ref) -> Axes:
        """The axes of a value, cells as what they are cells of."""
        if ref not in self.known:
            axes = self.space.ordered(self.space.base(a) for a in self.low.types[ref].axes)
            self.known[ref] = axes  # of what a loop begins a step with, which has no binding
            if ref in self.lets:
                found = self._found(ref, self.lets[ref].op)
                self.known[ref] = next((o for o in found if self.space.ordered(o) == axes), axes)
        return self.known[ref]

    def _found(self, ref: Ref, op: Op) -> Iterable[Axes]:
        """Orders to choose from: more axes than a value has do no harm."""
        if ref in self.low.written_axes:
            yield self.low.written_axes[ref]
        own = {self.space.base(a) for a in self.low.types[ref].axes}
        match op:
            case Input(name) | Param(name) | Buffer(name):
                yield self._leaves(self.declared[name])
            case Rename(value, old, new):
                yield tuple(new if axis == old else axis for axis in self.of(value))
            case Lookup(table, axis, index) if isinstance(index, str):
                rest = tuple(a for a in self.of(table) if a != axis and a not in self.of(index))
                yield (*self.of(index), *rest)
            case Repeat(initial=initial, position=position):
                yield self.of(initial[position])
            case _:
                for operand in operands(op) if isinstance(op, (Map, Mode)) else operands(op)[:1]:
                    yield tuple(axis for axis in self.of(operand) if axis in own)
                if isinstance(op, Pool):  # of weights along an axis that the value lacks
                    for weight in operands(op)[1:]:
                        yield tuple(axis for axis in self.of(weight) if axis in own)

    def _leaves(self, dims: Axes) -> Axes:
        return tuple(leaf for dim in dims for leaf in self.space.leaves(dim))
