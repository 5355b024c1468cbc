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
    Inside,
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
    Recurrence,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.ops import DRAWS, ELEMENTWISE
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
        case Position(axis):
            return Type("real", (axis,))
        case Link(target=target, source=source):
            return Type("real", space.ordered((target, source)))
        case Draw(distribution, axes=axes):
            return Type(_kind_of_draw(distribution), space.ordered(axes))
        case Swept(axes=axes):
            return Type("real", space.ordered(axes))
        case Map():
            return _map(op, types, space)
        case Pool():
            return _pool(op, types, space)
        case Count(over, where, weight):
            pooled = declarations.axes([axis for axis, _ in over])
            weights = [types[w].axes for w in (where, weight) if w is not None]
            return Type("real", space.pooled_axes(space.join(pooled, *weights), over))
        case Near(value, over, _, where, weight):
            return _pool(Pool("mean", value, over, where, weight), types, space)
        case Exchange():
            return _exchange(op, types)
        case FromSums() | ToSum() | Mode():
            return Type("real", _joined_axes(op, types, space))
        case AxisMap(value=value, axis=axis):
            if axis not in types[value].axes:
                raise IllTyped(f"no axis {axis} to map along")
            return Type("real", _joined_axes(op, types, space))
        case Recurrence():
            return _recurrence(op, types, space)
        case Lookup():
            return _lookup(op, types, space)
        case Piece():
            return _piece(op, types, space)
        case Inside(piece):
            return Type("bool", (_whole_of(piece, space),))
        case Concat():
            return _concat(op, types, space)
        case Rename():
            return _rename(op, types, space)
        case Detach(value):
            return types[value]
        case Cast(value):
            return Type("real", types[value].axes)
        case Expand(value, axes):
            return Type(types[value].kind, space.join(types[value].axes, axes))
        case Repeat(initial=initial, position=position):
            return types[initial[position]]


def _kind_of_draw(distribution: str) -> Kind:
    row = DRAWS[distribution]
    return "bool" if row.boolean else "int" if row.whole else "real"


def _exchange(op: Exchange, types: Mapping[Ref, Type]) -> Type:
    value = types[op.value]
    if value.kind != "real":
        raise IllTyped("an exchange of what is no number")
    if op.ties is not None and not {*types[op.ties].axes} <= {*value.axes}:
        raise IllTyped("ties of other values than those of an exchange")
    return value


def _joined_axes(op: Op, types: Mapping[Ref, Type], space: Space) -> tuple[str, ...]:
    """The axes of all operands."""
    return space.join(*(types[ref].axes for ref in operands(op)))


def _map(op: Map, types: Mapping[Ref, Type], space: Space) -> Type:
    row, count = ELEMENTWISE.get(op.function), len(op.arguments)
    if row is None or not row.min_arguments <= count <= len(row.parameters):
        raise IllTyped(f"{op.function} with {count} arguments")
    if any(types[a].kind == "int" for a in op.arguments) and not row.boolean:
        raise IllTyped(f"{op.function} of an index")
    return Type("bool" if row.boolean else "real", _joined_axes(op, types, space))


def _recurrence(op: Recurrence, types: Mapping[Ref, Type], space: Space) -> Type:
    others = [a for ref in operands(op) for a in types[ref].axes if a != op.axis]
    if op.axis in types[op.start].axes or op.axis in map(space.base, others):
        raise IllTyped(f"a start, or a value of groups, along {op.axis}")
    if space[op.axis].variadic or any(types[ref].kind == "int" for ref in operands(op)):
        raise IllTyped("a scan of what is no number, or along several axes")
    return Type("real", space.join((op.axis,), *((axis,) for axis in others)))


def _lookup(op: Lookup, types: Mapping[Ref, Type], space: Space) -> Type:
    table_axes = types[op.table].axes
    if op.axis not in table_axes:
        raise IllTyped(f"no axis {op.axis} to look up")
    row_axes = tuple(axis for axis in table_axes if axis != op.axis)
    index_axes = () if isinstance(op.index, int) else types[op.index].axes
    return Type("real", space.join(row_axes, index_axes))


def _whole_of(piece: str, space: Space) -> str:
    piece_of = space[piece].piece_of
    if piece_of is None:
        raise IllTyped(f"no axis that {piece} is a piece of")
    return piece_of[0]


def _piece(op: Piece, types: Mapping[Ref, Type], space: Space) -> Type:
    value, whole = types[op.value], _whole_of(op.piece, space)
    if whole not in value.axes:
        raise IllTyped(f"no axis that {op.piece} is a piece of")
    cut = (op.piece if axis == whole else axis for axis in value.axes)
    return Type(value.kind, space.ordered(cut))


def _concat(op: Concat, types: Mapping[Ref, Type], space: Space) -> Type:
    others = [axis for ref in op.values for axis in types[ref].axes if axis not in op.pieces]
    if op.axis in {space.base(axis) for axis in others}:
        raise IllTyped(f"the whole of {op.axis} in a piece of it")
    return Type("real", space.join((op.axis,), *((axis,) for axis in others)))


def _rename(op: Rename, types: Mapping[Ref, Type], space: Space) -> Type:
    value = types[op.value]
    if op.old not in value.axes or op.new in value.axes:
        raise IllTyped(f"cannot rename {op.old} to {op.new}")
    renamed = (op.new if axis == op.old else axis for axis in value.axes)
    return Type(value.kind, space.ordered(renamed))


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
