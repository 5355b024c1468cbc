"""The oracle: an interpreter of unoptimised IR in float64.

It shares no code with the passes or the printers. Gradients are autograd's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metanorm.ir.aggregation import Dense, Neighbours
from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.momenta import counts_batches
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
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
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.outputs import output_dims
from metanorm.ir.program import Program, Update
from metanorm.ir.scalar import Hyper
from metanorm.oracle import simplex
from metanorm.oracle.call import Call, Result
from metanorm.oracle.dense import F64, one_hot, pooling_matrix
from metanorm.oracle.environment import CallEnvironment
from metanorm.oracle.functions import FUNCTIONS
from metanorm.oracle.initial import drawn
from metanorm.oracle.pools import Pools
from metanorm.oracle.quiet import leaves_out, quiet
from metanorm.oracle.values import Values

EXACT_OPS = (Number, Position, Count, Param, Buffer)  # operations whose values are not rounded


def interpret(program: Program, call: Call) -> Result:
    """Run a program. The shapes of the call must fit: modules check them, not the oracle."""
    return _Run(program, call).result()


def values(program: Program, call: Call) -> Values:
    """Every value of a run by name; those of a `repeat` are of its last run."""
    run = _Run(program, call)
    for let in program.body:
        run.bind(let)
    return run.v


class _Run:
    def __init__(self, program: Program, call: Call) -> None:
        self.program = program
        self.call = call
        self.env = CallEnvironment(program, call)
        self.v = Values(self.env)
        self.pools = Pools(self.v)
        self.leaves_out = leaves_out(program)
        self.ops, self.flags = program.index.ops, flags_of(program)

    def result(self) -> Result:
        for let in self.program.body:
            self.bind(let)
        outputs = {
            name: self._as_tensor(ref, output_dims(self.program, name, ref))
            for name, ref in self.program.outputs
        }
        tracked = {b.name for b in self.program.buffers if b.tracked}
        updates = {
            u.buffer: self._new_buffer(u)
            for u in self.program.updates
            if u.happens(self.call.training) and (self.call.keeps or u.buffer not in tracked)
        }
        return Result(outputs, updates)

    def _as_tensor(self, ref: Ref, dims: tuple[str, ...]) -> Tensor:
        """A value as a tensor with these dimensions."""
        axes = tuple(leaf for dim in dims for leaf in self.env.space.leaves(dim))
        order = self.env.space.ordered(axes)
        value = self.v.broadcast(ref, order).permute([order.index(a) for a in axes])
        return value.reshape([n for dim in dims for n in self._lengths(dim)])

    def _lengths(self, dim: str) -> tuple[int, ...]:
        """The lengths behind a dimension of an output; for cells, how many there are."""
        if self.env.space[dim].cells_of is not None:
            return (self.v.size(dim),)
        return self.env.shapes[dim]

    def bind(self, let: Let) -> None:
        self.v.types[let.name] = let.type
        value = self._value(let.op, let.type)
        if let.type.kind == "real" and not isinstance(let.op, EXACT_OPS):
            value = self.env.rounded(value)
        self.v.values[let.name] = value

    def _value(self, op: Op, type_: Type) -> Tensor:
        match op:
            case Number(value):
                return torch.tensor(self.env.number(value), dtype=F64)
            case Input(name):
                return self._input(name)
            case Param(name):
                return self._param(name, type_)
            case Buffer(name):
                return self._buffer(name, type_)
            case Position(axis):
                return torch.arange(self.v.size(axis), dtype=F64)
            case Map():
                return self._map(op, type_)
            case Pool():
                return self.pools.pool(op, type_)
            case Count():
                return self.pools.count(op, type_)
            case AxisMap("softmax", value, axis):
                return torch.softmax(self.v.values[value], type_.axes.index(axis))
            case Recurrence():
                return self._recurrence(op, type_)
            case Lookup():
                return self._lookup(op, type_)
            case AxisMap("sparsestmax"):
                return self._sparsestmax(op, type_)
            case Link(edges, target, source, loop):
                size = self.v.size(target)
                dense, _ = pooling_matrix(Neighbours(edges, loop), size, self.env.grouping_data)
                return dense if type_.axes == (target, source) else dense.T
            case Piece():
                return self._piece(op, type_)
            case Inside(piece):
                start, end = self._run(piece)
                position = torch.arange(self.v.size(type_.axes[0]))
                return (position >= start) & (position < end)
            case Concat():
                return self._concat(op, type_)
            case Rename(value, old, new):
                axes = [new if a == old else a for a in self.v.types[value].axes]
                return self.v.values[value].permute([axes.index(a) for a in type_.axes])
            case Expand(value):
                return self.v.broadcast(value, type_.axes)
            case Detach(value):
                return self.v.values[value].detach()
            case Cast(value, to):
                return self._cast(self.v.values[value].to(F64), to)
            case Mode(train, evaluated, buffer):
                live = self.call.training or (buffer is not None and not self.call.keeps)
                return self.v.broadcast(train if live else evaluated, type_.axes)
            case Draw():
                numbers = [self.env.number(a) for a in op.arguments]
                shape = self._shape(type_)
                return drawn(op.distribution, numbers, shape, self.call.draws_in).to(F64)
            case Repeat():
                return self._repeat(op)
        raise NotImplementedError(f"the oracle does not know {op}")

    def _map(self, op: Map, type_: Type) -> Tensor:
        """An elementwise function. What a flag does not choose is not computed, and gives no
        gradient, not even zero times NaN."""
        if flag_of(op, self.ops, self.flags):
            condition, *branches = op.arguments
            chosen = branches[0 if self.v.values[condition] != 0 else 1]
            return self.v.broadcast(chosen, type_.axes).to(F64)
        tensors = [self.v.aligned(a, type_.axes) for a in op.arguments]
        function = FUNCTIONS[op.function]
        applied = quiet(function) if self.leaves_out else function
        return applied(*(tensor.to(F64) for tensor in tensors))

    def _param(self, name: str, type_: Type) -> Tensor:
        """A parameter, or what stands for it where it is left out."""
        decl = next(p for p in self.program.params if p.name == name)
        param = self.call.params.get(name)
        if param is None:
            return torch.full(self._shape(type_), decl.absent or 0.0, dtype=F64)
        return self.v.flat(param.to(F64), decl.dims)

    def _buffer(self, name: str, type_: Type) -> Tensor:
        """A buffer, or zeros for one that the call does not keep."""
        dims = next(b.dims for b in self.program.buffers if b.name == name)
        buffer = self.call.buffers.get(name)
        if buffer is None:
            return torch.zeros(self._shape(type_), dtype=F64)
        return self.v.flat(buffer.to(F64), dims)

    def _shape(self, type_: Type) -> list[int]:
        return [self.v.size(axis) for axis in type_.axes]

    def _sparsestmax(self, op: AxisMap, type_: Type) -> Tensor:
        """The projection onto a part of the simplex, or the adjoint of that."""
        assert op.argument is not None
        full = self._shape(type_)
        tensors = [self.v.aligned(r, type_.axes).to(F64).expand(full) for r in operands(op)]
        radius, dim = self.env.number(op.argument), type_.axes.index(op.axis)
        if op.adjoint is not None:
            return simplex.adjoint(tensors[0], radius, dim, tensors[1])
        return simplex.along(tensors[0], radius, dim)

    def _recurrence(self, op: Recurrence, type_: Type) -> Tensor:
        """Each state from the one before it, step by step."""
        dim = type_.axes.index(op.axis)
        value, decay = (self.v.broadcast(r, type_.axes).to(F64) for r in (op.value, op.decay))
        others = tuple(axis for axis in type_.axes if axis != op.axis)
        state = self.v.broadcast(op.start, others).to(F64)
        states = [state] * value.shape[dim]
        steps = range(value.shape[dim])
        for position in reversed(steps) if op.reverse else steps:
            begun = state
            state = decay.select(dim, position) * state + value.select(dim, position)
            states[position] = begun if op.before else state
        return torch.stack(states, dim) if states else value

    def _piece(self, op: Piece, type_: Type) -> Tensor:
        """A run of positions of an axis."""
        whole, _ = self.env.space.cut(op.piece)
        axes = [op.piece if a == whole else a for a in self.v.types[op.value].axes]
        dim, (start, end) = axes.index(op.piece), self._run(op.piece)
        run = self.v.values[op.value].narrow(dim, start, end - start)
        return run.permute([axes.index(a) for a in type_.axes])

    def _run(self, piece: str) -> tuple[int, int]:
        """The first position of a run of an axis, and the one behind it."""
        _, first = self.env.space.cut(piece)
        start = int(self.env.number(first))
        return start, start + self.v.size(piece)

    def _concat(self, op: Concat, type_: Type) -> Tensor:
        """Runs of positions of an axis, and zero at all other positions."""
        dim = type_.axes.index(op.axis)
        whole = torch.zeros(self._shape(type_), dtype=F64)
        for ref, piece in zip(op.values, op.pieces):
            axes = (*type_.axes[:dim], piece, *type_.axes[dim + 1 :])
            start, end = self._run(piece)
            whole.narrow(dim, start, end - start).copy_(self.v.broadcast(ref, axes))
        return whole

    def _cast(self, value: Tensor, to: Dtype) -> Tensor:
        """The value rounded to a dtype. Its gradient is that of the identity."""
        dtype = self._dtype(to)
        return value + (value.detach().to(dtype).to(F64) - value.detach())

    def _dtype(self, to: Dtype) -> torch.dtype:
        if not to.like:
            dtype: torch.dtype = getattr(torch, to.name)
            return dtype
        is_given = to.name in self.call.params or self.env.inputs.get(to.name) is not None
        return self.call.dtypes.get(to.name if is_given else self.program.inputs[0].name, F64)

    def _input(self, name: str) -> Tensor:
        decl = next(i for i in self.program.inputs if i.name == name)
        if decl.sort == "matrix":
            size = self.env.sizes[decl.dims[0]]
            return pooling_matrix(Dense(name), size, self.env.grouping_data)[0]
        tensor = self.env.inputs[name]
        if tensor is None:
            assert isinstance(decl.default, float)
            shape = [
                self.env.sizes[leaf] for dim in decl.dims for leaf in self.env.space.leaves(dim)
            ]
            return torch.full(shape, decl.default, dtype=F64)
        converted = tensor if decl.sort in ("index", "whole") else tensor.to(F64)
        return self.v.flat(converted, decl.dims)

    def _lookup(self, op: Lookup, type_: Type) -> Tensor:
        if isinstance(op.index, int):
            dim = self.v.types[op.table].axes.index(op.axis)
            if not self.v.size(op.axis):  # of an input without elements, whose results are zero
                return self.v.values[op.table].sum(dim)
            return self.v.values[op.table].select(dim, op.index)
        index = self.v.values[op.index]
        rows = one_hot(index.flatten(), self.v.size(op.axis)).T
        chooser = rows.reshape(*index.shape, rows.shape[1])
        inner = (*type_.axes, op.axis)
        self.v.values["%rows"], self.v.types["%rows"] = (
            chooser,
            Type("real", (*self.v.types[op.index].axes, op.axis)),
        )
        chosen = self.v.aligned("%rows", inner)
        table = self.v.aligned(op.table, inner)
        return torch.where(chosen != 0, chosen * table, 0.0).sum(-1)

    def _repeat(self, op: Repeat) -> Tensor:
        state = [self.v.values[ref] for ref in op.initial]
        for _ in range(int(self.env.number(op.count))):
            for name, value, initial in zip(op.inside, state, op.initial):
                self.v.values[name], self.v.types[name] = value, self.v.types[initial]
            for let in op.body:
                self.bind(let)
            state = [self.v.values[ref] for ref in op.results]
        return state[op.position]

    def _new_buffer(self, update: Update) -> Tensor:
        decl = next(b for b in self.program.buffers if b.name == update.buffer)
        axes = tuple(leaf for dim in decl.dims for leaf in self.env.space.leaves(dim))
        order = self.env.space.ordered(axes)
        value = self.v.broadcast(update.value, order).detach()
        if update.averages:
            momentum = self._momentum(update)
            old = self.v.broadcast(update.buffer, order).detach()
            value = (1 - momentum) * old + momentum * value
        stored = value.permute([order.index(a) for a in axes])
        return stored.reshape([n for dim in decl.dims for n in self.env.shapes[dim]])

    def _momentum(self, update: Update) -> float:
        momentum = update.momentum
        if isinstance(momentum, Hyper) and self.call.hypers.get(momentum.name) is None:
            momentum = None
        if momentum is not None:
            return self.env.number(momentum)
        return 1 / max(1, self.call.batches) if counts_batches(self.program) else 0.0
