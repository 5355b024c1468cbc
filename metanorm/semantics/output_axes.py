"""The order of the dimensions of outputs: that of a declaration or of an input."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.ir.nodes import (
    Buffer,
    Concat,
    Input,
    Lookup,
    Map,
    Mode,
    Op,
    Param,
    Piece,
    Pool,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Declaration
from metanorm.semantics.lowering import Lowering

Axes = tuple[str, ...]


class OutputOrders:
    """The orders of the dimensions of values, as a norm returns them.

    A `let` with axes gives their order. Any other value has the order of its first operand that
    has all of its axes. Inputs, parameters and buffers have the order of their declarations.
    """

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.space = low.table.space
        declared: list[Declaration] = [*low.inputs, *low.params, *low.buffers]
        self.declared_dims = {decl.name: decl.dims for decl in declared}

    def unsplit(self, ref: Ref) -> Axes:
        """The dimensions of a value, with split axes joined."""
        return self.space.unsplit(self.of(ref))

    def of(self, ref: Ref) -> Axes:
        """The axes of a value in order, with the base axis of each cell axis."""
        known_orders, pending = self.low.known_orders, [ref]
        while pending:  # operands first, and no recursion: a chain of values can be long
            value = pending.pop()
            if value in known_orders:
                continue
            op = self.low.ops.get(value)  # a carried value of a loop has none
            unknown = [r for r in operands(op) if r not in known_orders] if op is not None else []
            if unknown:
                pending += [value, *unknown]
            else:
                known_orders[value] = self._order(value, op)
        return known_orders[ref]

    def _order(self, ref: Ref, op: Op | None) -> Axes:
        """The order of a value whose operands have one."""
        axes = self.space.ordered(self.space.base(a) for a in self.low.types[ref].axes)
        candidates = self._candidate_orders(ref, op) if op is not None else ()
        return next((o for o in candidates if self.space.ordered(o) == axes), axes)

    def _candidate_orders(self, ref: Ref, op: Op) -> Iterable[Axes]:
        """Candidates for the order of a value. They may have further axes."""
        if ref in self.low.written_axes:
            yield self.low.written_axes[ref]
        value_axes = {self.space.base(a) for a in self.low.types[ref].axes}
        match op:
            case Input(name) | Param(name) | Buffer(name):
                yield self._leaves(self.declared_dims[name])
            case Rename(value, old, new):
                yield tuple(new if axis == old else axis for axis in self.of(value))
            case Piece(value, piece):
                whole = self._whole(piece)
                yield tuple(piece if axis == whole else axis for axis in self.of(value))
            case Concat(values, pieces, axis):
                for ref, piece in zip(values, pieces):
                    yield tuple(axis if a == piece else a for a in self.of(ref))
            case Lookup(table, axis, index) if isinstance(index, str):
                other_axes = tuple(
                    a for a in self.of(table) if a != axis and a not in self.of(index)
                )
                yield (*self.of(index), *other_axes)
            case Repeat(initial=initial, position=position):
                yield self.of(initial[position])
            case _:
                for operand in operands(op) if isinstance(op, (Map, Mode)) else operands(op)[:1]:
                    yield tuple(axis for axis in self.of(operand) if axis in value_axes)
                if isinstance(op, Pool):  # a weight may have axes that the value lacks
                    for weight in operands(op)[1:]:
                        yield tuple(axis for axis in self.of(weight) if axis in value_axes)

    def _whole(self, piece: str) -> str:
        piece_of = self.space[piece].piece_of
        return piece_of[0] if piece_of is not None else piece

    def _leaves(self, dims: Axes) -> Axes:
        return tuple(leaf for dim in dims for leaf in self.space.leaves(dim))
