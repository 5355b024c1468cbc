"""An interpreter of unoptimised IR in float64. It computes what is asked for, and what that needs.

What only later passes make, such as adjoints, is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Dtype,
    Expand,
    Input,
    Inside,
    Let,
    Link,
    Lookup,
    Map,
    Mode,
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
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Declaration, InputDecl
from metanorm.small.call import Call
from metanorm.small.dtypes import rounded
from metanorm.small.functions import FUNCTIONS, exponential, quotient
from metanorm.small.groupings import neighbours
from metanorm.small.pools import MAX_STEPS, Pools, TooLarge
from metanorm.small.simplex import sparsestmax
from metanorm.small.values import Values


def values(call: Call, requested: Iterable[Ref]) -> Values:
    """Values of a run by name: those requested, and those that they are computed from.

    Values inside of a `repeat` are those of its last run. Raises `TooLarge`.
    """
    run = _Run(call)
    needed = set(requested)
    for let in reversed(call.program.body):
        if let.name in needed or (isinstance(let.op, Repeat) and needed & _inner_names(let.op)):
            needed |= {let.name, *operands(let.op)}
    for let in call.program.body:
        if let.name in needed:
            run.bind(let)
    return run.values


def _inner_names(op: Repeat) -> set[Ref]:
    nested = (let.op for let in op.body if isinstance(let.op, Repeat))
    return {let.name for let in op.body}.union(op.inside, *map(_inner_names, nested))


class _Run:
    def __init__(self, call: Call) -> None:
        self.call = call
        self.values = Values(call)
        self.pools = Pools(self.values)
        self.declarations = {decl.name: decl for decl in call.program.declarations}

    def bind(self, let: Let) -> None:
        if math.prod(self.values.sizes(let.type.axes)) > MAX_STEPS:
            raise TooLarge(let.name)
        self.values.elements[let.name] = self._value(let)

    def _value(self, let: Let) -> Sequence[float]:
        op: Op = let.op
        axes = let.type.axes
        match op:
            case Number(value):
                return [self.call.number(value)]
            case Input(name) | Param(name) | Buffer(name):
                return self._stored(self.declarations[name])
            case Position(axis):
                return [float(position) for position in range(self.values.size(axis))]
            case Map(function, arguments):
                columns = [self.values.broadcast(argument, axes) for argument in arguments]
                return [FUNCTIONS[function](*row) for row in zip(*columns)]
            case Pool() | Count():
                return self.pools.result(op, let.type, let.name)
            case AxisMap(adjoint=None):
                return self._along(op, axes)
            case Recurrence():
                return self._recurrence(op, axes)
            case Lookup():
                return self._lookup(op, axes)
            case Link(edges, target, source, loop):
                size = self.values.size(target)
                rows = neighbours(edges, loop, size, self.call)
                dense = [row.get(node, 0.0) for row in rows for node in range(size)]
                return self.values.spread(dense, (target, source), axes)
            case Piece(value, piece):
                return self._piece(value, piece, axes)
            case Inside(piece):
                start, end = self._run(piece)
                positions = range(self.values.size(axes[0]))
                return [float(start <= position < end) for position in positions]
            case Concat():
                return self._concat(op, axes)
            case Rename(value, old, new):
                renamed = [new if axis == old else axis for axis in self.values.types[value].axes]
                return self.values.spread(self.values.elements[value], renamed, axes)
            case Expand(value) | Detach(value):
                return self.values.broadcast(value, axes)
            case Cast(value, to):
                dtype = self._dtype(to)
                return [rounded(x, dtype) for x in self.values.broadcast(value, axes)]
            case Mode(train=train):
                return self.values.broadcast(train, axes)
            case Repeat():
                return self._repeat(op)
        raise NotImplementedError(f"small examples know nothing of {op}")

    def _stored(self, decl: Declaration) -> Sequence[float]:
        """A tensor that is given, with its axes in program order."""
        axes = [leaf for dim in decl.dims for leaf in self.values.space.leaves(dim)]
        if isinstance(decl, InputDecl) and decl.offsets:
            return [float(segment) for segment in self.call.cells_of_index(decl.name)[0]]
        elements = self.call.tensor(decl.name).elements
        return self.values.spread(elements, axes, self.values.space.ordered(axes))

    def _dtype(self, to: Dtype) -> str:
        """The name of a dtype. All tensors of an example are of float64."""
        return "float64" if to.like else to.name

    def _along(self, op: AxisMap, axes: Sequence[str]) -> Sequence[float]:
        """A function of the vectors along an axis."""
        others = [axis for axis in axes if axis != op.axis]
        lines = self.values.broadcast(op.value, (*others, op.axis))
        length = self.values.size(op.axis)
        results: list[float] = []
        for start in range(0, len(lines), length):
            line = lines[start : start + length]
            if op.function == "softmax":
                results += _softmax(line)
            else:
                assert op.function == "sparsestmax" and op.argument is not None
                results += sparsestmax(line, self.call.number(op.argument))
        return self.values.spread(results, (*others, op.axis), axes)

    def _recurrence(self, op: Recurrence, axes: Sequence[str]) -> Sequence[float]:
        """The states along an axis, each from the one before it."""
        others = [axis for axis in axes if axis != op.axis]
        values, decays = (
            self.values.broadcast(ref, (*others, op.axis)) for ref in (op.value, op.decay)
        )
        length = self.values.size(op.axis)
        states = [0.0] * len(values)
        for line, state in enumerate(self.values.broadcast(op.start, others)):
            places = range(line * length, (line + 1) * length)
            for place in reversed(places) if op.reverse else places:
                begun, state = state, decays[place] * state + values[place]
                states[place] = begun if op.before else state
        return self.values.spread(states, (*others, op.axis), axes)

    def _lookup(self, op: Lookup, axes: Sequence[str]) -> Sequence[float]:
        """Rows of a table. One that is not there is zero."""
        length = self.values.size(op.axis)
        table = self.values.broadcast(op.table, (*axes, op.axis))
        if isinstance(op.index, int):
            return table[op.index % length :: length]
        chosen = map(int, self.values.broadcast(op.index, axes))
        return [
            table[place * length + row] if 0 <= row < length else 0.0
            for place, row in enumerate(chosen)
        ]

    def _piece(self, value: Ref, piece: str, axes: Sequence[str]) -> Sequence[float]:
        """A run of positions of an axis."""
        whole, _ = self.values.space.cut(piece)
        start, end = self._run(piece)
        others = [axis for axis in axes if axis != piece]
        lines = self.values.broadcast(value, (*others, whole))
        length = self.values.size(whole)
        cut = [x for line in range(0, len(lines), length) for x in lines[line + start : line + end]]
        return self.values.spread(cut, (*others, piece), axes)

    def _run(self, piece: str) -> tuple[int, int]:
        """The first position of a run of an axis, and the one behind it."""
        _, first = self.values.space.cut(piece)
        start = int(self.call.number(first))
        return start, start + self.values.size(piece)

    def _concat(self, op: Concat, axes: Sequence[str]) -> Sequence[float]:
        """Runs of positions, and zero at all other positions."""
        others = [axis for axis in axes if axis != op.axis]
        lines, length = math.prod(self.values.sizes(others)), self.values.size(op.axis)
        joined = [0.0] * (lines * length)
        for ref, piece in zip(op.values, op.pieces):
            run, (start, end) = self.values.broadcast(ref, (*others, piece)), self._run(piece)
            for line in range(lines):
                of_line = run[line * (end - start) : (line + 1) * (end - start)]
                joined[line * length + start : line * length + end] = of_line
        return self.values.spread(joined, (*others, op.axis), axes)

    def _repeat(self, op: Repeat) -> Sequence[float]:
        state = [self.values.elements[ref] for ref in op.initial]
        for _ in range(int(self.call.number(op.count))):
            self.values.elements.update(zip(op.inside, state))
            for let in op.body:
                self.bind(let)
            state = [self.values.elements[ref] for ref in op.results]
        return state[op.position]


def _softmax(line: Sequence[float]) -> list[float]:
    top = max(line)
    powers = [exponential(x - top) for x in line]
    return [quotient(power, sum(powers)) for power in powers]
