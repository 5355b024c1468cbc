"""The type of an operation, from the types of its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Exchange,
    Expand,
    FromSums,
    Input,
    Kind,
    Link,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Ref,
    Rename,
    Repeat,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.program import BufferDecl, InputDecl, ParamDecl
from metanorm.ir.space import Space

KINDS: dict[str, Kind] = {
    "tensor": "real",
    "matrix": "real",
    "index": "int",
    "whole": "int",
    "mask": "bool",
    "edges": "int",
}


class IllTyped(Exception):
    """An operation without a type. Specs are checked, so this is a bug of what built it."""


class Declarations:
    """The axes of inputs, parameters and buffers, by name."""

    def __init__(
        self,
        space: Space,
        inputs: Sequence[InputDecl] = (),
        params: Sequence[ParamDecl] = (),
        buffers: Sequence[BufferDecl] = (),
    ) -> None:
        self.space = space
        self.inputs = {i.name: i for i in inputs}
        self.params = {p.name: p for p in params}
        self.buffers = {b.name: b for b in buffers}

    def axes(self, dims: Sequence[str]) -> tuple[str, ...]:
        """The axes of tensor dimensions: a split axis becomes its parts."""
        return self.space.ordered(leaf for dim in dims for leaf in self.space.leaves(dim))


def type_of(op: Op, types: Mapping[Ref, Type], declarations: Declarations) -> Type:
    """The type of `op`; raises `IllTyped` where it has none."""
    space = declarations.space
    match op:
        case Number():
            return Type("real")
        case Input(name):
            declared = declarations.inputs[name]
            return Type(KINDS[declared.sort], declarations.axes(declared.dims))
        case Param(name):
            return Type("real", declarations.axes(declarations.params[name].dims))
        case Buffer(name):
            return Type("real", declarations.axes(declarations.buffers[name].dims))
        case Map(function, arguments):
            row = ELEMENTWISE.get(function)
            if row is None or not row.min_arguments <= len(arguments) <= len(row.parameters):
                raise IllTyped(f"{function} with {len(arguments)} arguments")
            if any(types[a].kind == "int" for a in arguments) and not row.boolean:
                raise IllTyped(f"{function} of an index")
            axes = space.join(*(types[a].axes for a in arguments))
            return Type("bool" if row.boolean else "real", axes)
        case Pool():
            return _pool(op, types, space)
        case Count(over, where, weight):
            pooled = declarations.axes([axis for axis, _ in over])
            weights = [types[w].axes for w in (where, weight) if w is not None]
            return Type("real", space.pooled_axes(space.join(pooled, *weights), over))
        case Near(value, over, _, where, weight):
            return _pool(Pool("mean", value, over, where, weight), types, space)
        case Exchange(value):
            if types[value].kind != "real":
                raise IllTyped("an exchange of what is no number")
            return types[value]
        case FromSums(_, sums, near):
            operands_read = sums if near is None else (*sums, near)
            return Type("real", space.join(*(types[ref].axes for ref in operands_read)))
        case AxisMap(value=value, axis=axis):
            if axis not in types[value].axes:
                raise IllTyped(f"no axis {axis} to map along")
            return Type("real", space.join(*(types[ref].axes for ref in operands(op))))
        case Lookup(table, axis, index):
            if axis not in types[table].axes:
                raise IllTyped(f"no axis {axis} to look up")
            rest = tuple(a for a in types[table].axes if a != axis)
            return Type(
                "real", space.join(rest, () if isinstance(index, int) else types[index].axes)
            )
        case Piece(value, piece):
            piece_of = space[piece].piece_of
            if piece_of is None or piece_of[0] not in types[value].axes:
                raise IllTyped(f"no axis that {piece} is a piece of")
            cut = (piece if a == piece_of[0] else a for a in types[value].axes)
            return Type(types[value].kind, space.ordered(cut))
        case Concat(values, pieces, axis):
            others = [a for ref in values for a in types[ref].axes if a not in pieces]
            if axis in {space.base(a) for a in others}:
                raise IllTyped(f"the whole of {axis} in a piece of it")
            return Type("real", space.join((axis,), *((a,) for a in others)))
        case Rename(value, old, new):
            if old not in types[value].axes or new in types[value].axes:
                raise IllTyped(f"cannot rename {old} to {new}")
            renamed = (new if a == old else a for a in types[value].axes)
            return Type(types[value].kind, space.ordered(renamed))
        case Position(axis):
            return Type("real", (axis,))
        case Link(target=target, source=source):
            return Type("real", space.ordered((target, source)))
        case Draw(axes=axes):
            return Type("real", space.join(axes))
        case Detach(value):
            return types[value]
        case Cast(value):
            return Type("real", types[value].axes)
        case Mode(train, evaluated, _):
            return Type("real", space.join(types[train].axes, types[evaluated].axes))
        case Expand(value, axes):
            return Type(types[value].kind, space.join(types[value].axes, axes))
        case Repeat(initial=initial, position=position):
            return types[initial[position]]


def _pool(op: Pool, types: Mapping[Ref, Type], space: Space) -> Type:
    if not op.over:
        raise IllTyped("a pool over nothing")
    weight_axes = [types[w].axes for w in (op.where, op.weight) if w is not None]
    joined = space.join(types[op.value].axes, *weight_axes)
    present = {*joined, *(space.base(a) for a in joined)}
    missing = [axis for axis, _ in op.over if axis not in present]
    if missing:
        raise IllTyped(f"a pool over {missing[0]}, which the value does not have")
    axes = space.pooled_axes(joined, op.over)
    if op.about is not None:
        axes = space.join(axes, types[op.about].axes)
    return Type("real", axes)
