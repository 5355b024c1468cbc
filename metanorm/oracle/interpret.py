"""The oracle: an interpreter of unoptimised IR in float64.

It shares no code with the passes or the printers. Gradients are autograd's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metanorm.ir.nodes import (
    Along,
    Buffer,
    Count,
    Expand,
    Input,
    Let,
    Lookup,
    Map,
    Mode,
    Number,
    Op,
    Param,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
    Stop,
    Type,
    Update,
)
from metanorm.ir.scalar import Hyper, Scalar, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.oracle.dense import F64, Known, one_hot, pooling_matrix


@dataclass
class Call:
    """One call of a module, as data.

    `inputs` holds `None` for what is left out, `hypers` what the constructor was given
    (for a size: an `int`, or a tuple for a group of axes), `epsilon` what a hyperparameter that is
    `None` stands for. `keeps` is whether there are running statistics, `batches` how many updates
    there have been, this one included.
    """

    inputs: Mapping[str, Tensor | None]
    params: Mapping[str, Tensor | None] = field(default_factory=dict)
    buffers: Mapping[str, Tensor | None] = field(default_factory=dict)
    hypers: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    training: bool = True
    keeps: bool = True
    batches: int = 1
    epsilon: float = 0.0


@dataclass
class Result:
    """Outputs by name, in order, and the new contents of buffers."""

    outputs: dict[str, Tensor]
    updates: dict[str, Tensor]


def interpret(program: Program, call: Call) -> Result:
    """Run a program. Shapes must fit: checking them is the modules' business."""
    return _Run(program, call).result()


class _Run:
    def __init__(self, program: Program, call: Call) -> None:
        self.program = program
        self.call = call
        self.space = Space(program.axes)
        self.sizes: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[Ref, Type] = {}
        self.values: dict[Ref, Tensor] = {}
        self.inputs: dict[str, Tensor | None] = {}
        self._take_inputs()
        groups = self._groups()
        given = {n: t for n, t in self.inputs.items() if t is not None}
        matrices = {**self._matrices(), **given}
        self.known = Known(given, groups, matrices, given, self._number)

    def result(self) -> Result:
        for let in self.program.body:
            self._bind(let)
        outputs = {name: self._stored(ref) for name, ref in self.program.outputs}
        if not self.call.training:
            return Result(outputs, {})
        tracked = {b.name for b in self.program.buffers if b.tracked}
        updates = {
            u.buffer: self._updated(u)
            for u in self.program.updates
            if self.call.keeps or u.buffer not in tracked
        }
        return Result(outputs, updates)

    def _bind(self, let: Let) -> None:
        self.types[let.name] = let.type
        self.values[let.name] = self._value(let.op, let.type)

    # ---- what comes in

    def _take_inputs(self) -> None:
        for decl in self.program.inputs:
            given = self.call.inputs.get(decl.name)
            if given is None and isinstance(decl.default, str):
                given = self.call.inputs.get(decl.default)
            self.inputs[decl.name] = given
            if given is not None and decl.sort in ("tensor", "mask", "index"):
                self._measure(decl.dims, given)
        for name, value in self.call.hypers.items():
            for axis in next((a.axes for a in self.program.arguments if a.name == name), ()):
                if axis not in self.sizes and isinstance(value, (int, tuple)):
                    shape = (value,) if isinstance(value, int) else value
                    self._set(axis, tuple(shape))
        for known in self.program.axes:
            if known.name not in self.sizes and known.size is not None and not known.cells_of:
                self._set(known.name, (int(self._number(known.size)),))

    def _measure(self, dims: Sequence[str], tensor: Tensor) -> None:
        """Sizes of axes from the shape; a group of axes takes what the others leave."""
        shape = list(tensor.shape)
        group = [d for d in dims if self.space[d].variadic]
        unknown = [d for d in group if self.space[d].size is None]
        for dim in dims:
            if dim not in group:
                self._set(dim, (shape.pop(0),))
                continue
            size = self.space[dim].size
            fixed = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
            if dim not in unknown and fixed is not None:
                length = 1 if isinstance(fixed, int) else len(fixed)  # type: ignore[arg-type]
            else:
                behind = dims[list(dims).index(dim) + 1 :]
                length = len(shape) - sum(self._rank(d) for d in behind)
            self._set(dim, tuple(shape[:length]))
            shape = shape[length:]

    def _rank(self, dim: str) -> int:
        size = self.space[dim].size
        if not self.space[dim].variadic:
            return 1
        fixed = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
        return 1 if isinstance(fixed, int) else len(fixed)  # type: ignore[arg-type]

    def _set(self, axis: str, shape: tuple[int, ...]) -> None:
        self.shapes[axis] = shape
        self.sizes[axis] = math.prod(shape)
        parts = self.space[axis].parts
        for part in parts:
            size = self.space[part].size
            if size is not None and part not in self.sizes:
                self._set(part, (int(self._number(size)),))

    def _number(self, scalar: Scalar) -> float:
        names = {n: float(v) for n, v in self.call.hypers.items() if isinstance(v, (int, float))}
        for leaf in leaves(scalar):
            if isinstance(leaf, Hyper) and self.call.hypers.get(leaf.name) is None:
                names[leaf.name] = self.call.epsilon
            if isinstance(leaf, SizeOf) and leaf.axis not in self.sizes:
                raise KeyError(leaf.axis)
        return evaluate(scalar, names, self.sizes)

    def _groups(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for decl in self.program.inputs:
            if decl.sort != "index":
                continue
            given = self.inputs[decl.name]
            if decl.table is not None:
                found[decl.name] = self.sizes[decl.table]
            elif given is None:
                found[decl.name] = 1
                shape = [self.sizes[axis] for axis in decl.dims]
                self.inputs[decl.name] = torch.zeros(shape, dtype=torch.long)
            else:
                known = self.call.groups.get(decl.name)
                found[decl.name] = int(given.max()) + 1 if known is None else known
        return found

    def _matrices(self) -> dict[str, Tensor | str]:
        found: dict[str, Tensor | str] = {}
        for argument in self.program.arguments:
            value = self.call.hypers.get(argument.name, argument.default)
            if argument.type == "matrix" and isinstance(value, (Tensor, str)):
                found[argument.name] = value
        found.update({n: p for n, p in self.call.params.items() if p is not None})
        return found

    # ---- axes

    def _size(self, axis: str) -> int:
        cells_of = self.space[axis].cells_of
        if cells_of is None:
            return self.sizes[axis]
        return len(pooling_matrix(cells_of[1], self.sizes[cells_of[0]], self.known)[0])

    def _flat(self, tensor: Tensor, dims: Sequence[str]) -> Tensor:
        """A tensor as it is given, to one dimension for each axis, in the order of the program."""
        axes = [leaf for dim in dims for leaf in self.space.leaves(dim)]
        tensor = tensor.reshape([self.sizes[axis] for axis in axes])
        return tensor.permute([axes.index(axis) for axis in self.space.ordered(axes)])

    def _stored(self, ref: Ref) -> Tensor:
        """A value with its axes in the order of the first input, groups of axes spread out."""
        axes = self.types[ref].axes
        wanted = self.space.ordered(self.space.base(a) for a in axes)
        full = self.broadcast(ref, wanted)
        return full.reshape([n for axis in self._outer(wanted) for n in self.shapes[axis]])

    def _outer(self, axes: Sequence[str]) -> list[str]:
        """Axes with complete sets of parts put together again."""
        merged = list(axes)
        for axis in self.space:
            inner = self.space.leaves(axis.name)
            if axis.parts and all(leaf in merged for leaf in inner):
                merged[merged.index(inner[0])] = axis.name
                merged = [a for a in merged if a not in inner]
        return merged

    def aligned(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value with a dimension for each of `axes`, of length one where it does not have it."""
        value, own = self.values[ref], list(self.types[ref].axes)
        for position, axis in enumerate(own):
            base = self.space.base(axis)
            if axis not in axes and base in axes:
                cells_of = self.space[axis].cells_of
                assert cells_of is not None
                spread, _ = pooling_matrix(cells_of[1], self.sizes[base], self.known)
                cell = spread.argmax(dim=0) if len(spread) else torch.zeros(0, dtype=torch.long)
                value = value.index_select(position, cell)
                own[position] = base
        order = [own.index(axis) for axis in axes if axis in own]
        shape = [self._size(axis) if axis in own else 1 for axis in axes]
        return value.permute(order).reshape(shape)

    def broadcast(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value repeated along all of `axes`."""
        return self.aligned(ref, axes).expand([self._size(axis) for axis in axes])

    # ---- operations

    def _value(self, op: Op, type_: Type) -> Tensor:
        match op:
            case Number(value):
                return torch.tensor(self._number(value), dtype=F64)
            case Input(name):
                return self._input(name)
            case Param(name):
                decl = next(p for p in self.program.params if p.name == name)
                param = self.call.params.get(name)
                if param is None:
                    shape = [self._size(axis) for axis in type_.axes]
                    return torch.full(shape, decl.absent or 0.0, dtype=F64)
                return self._flat(param.to(F64), decl.dims)
            case Buffer(name):
                dims = next(b.dims for b in self.program.buffers if b.name == name)
                buffer = self.call.buffers.get(name)
                shape = [self._size(axis) for axis in type_.axes]
                return (
                    torch.zeros(shape, dtype=F64)
                    if buffer is None
                    else self._flat(buffer.to(F64), dims)
                )
            case Position(axis):
                return torch.arange(self._size(axis), dtype=F64)
            case Map(function, arguments):
                given = [self.aligned(a, type_.axes) for a in arguments]
                return FUNCTIONS[function](*(g.to(F64) for g in given))
            case Pool():
                return self._pool(op, type_)
            case Count():
                return self._count(op, type_)
            case Along("softmax", value, axis):
                return torch.softmax(self.values[value], type_.axes.index(axis))
            case Lookup():
                return self._lookup(op, type_)
            case Rename(value, old, new):
                axes = [new if a == old else a for a in self.types[value].axes]
                return self.values[value].permute([axes.index(a) for a in type_.axes])
            case Expand(value):
                return self.broadcast(value, type_.axes)
            case Stop(value):
                return self.values[value].detach()
            case Mode(train, evaluated, buffer):
                live = self.call.training or (buffer is not None and not self.call.keeps)
                return self.broadcast(train if live else evaluated, type_.axes)
            case Repeat():
                return self._repeat(op)
        raise NotImplementedError(f"the oracle does not know {op}")

    def _input(self, name: str) -> Tensor:
        decl = next(i for i in self.program.inputs if i.name == name)
        given = self.inputs[name]
        if given is None:
            assert isinstance(decl.default, float)
            shape = [self.sizes[leaf] for dim in decl.dims for leaf in self.space.leaves(dim)]
            return torch.full(shape, decl.default, dtype=F64)
        wanted = given if decl.sort == "index" else given.to(F64)
        return self._flat(wanted, decl.dims)

    def _lookup(self, op: Lookup, type_: Type) -> Tensor:
        if isinstance(op.index, int):
            return self.values[op.table].select(self.types[op.table].axes.index(op.axis), op.index)
        index = self.values[op.index]
        rows = one_hot(index.flatten(), self._size(op.axis)).T
        chooser = rows.reshape(*index.shape, -1)
        inner = (*type_.axes, op.axis)
        self.values["%rows"], self.types["%rows"] = (
            chooser,
            Type("real", (*self.types[op.index].axes, op.axis)),
        )
        chosen = self.aligned("%rows", inner)
        table = self.aligned(op.table, inner)
        return torch.where(chosen != 0, chosen * table, 0.0).sum(-1)

    def _repeat(self, op: Repeat) -> Tensor:
        state = [self.values[ref] for ref in op.initial]
        for _ in range(int(self._number(op.count))):
            for name, value, initial in zip(op.inside, state, op.initial):
                self.values[name], self.types[name] = value, self.types[initial]
            for let in op.body:
                self._bind(let)
            state = [self.values[ref] for ref in op.results]
        return state[op.position]

    # ---- pools

    def _coefficients(
        self, op: Pool | Count, joined: Sequence[str], kept: Sequence[str]
    ) -> tuple[Tensor, list[int], list[int]]:
        """How much each position counts for each pool: [kept..., pools, positions].

        The Kronecker product of the axis matrices, times the weights; also the number of pools
        and of extra zero columns of each pooled axis.
        """
        product = torch.ones(1, 1, dtype=F64)
        rows, extra = [], []
        pooled = [axis for axis in joined if axis not in kept]
        matrices = dict(op.over)
        for axis in pooled:
            matrix = matrices.get(axis) or matrices[self.space.base(axis)]
            dense, more = pooling_matrix(matrix, self._size(axis), self.known)
            product = torch.kron(product, dense)
            rows.append(len(dense))
            extra.append(more)
        weight = torch.ones(1, dtype=F64)
        for ref, is_condition in ((op.where, True), (op.weight, False)):
            if ref is not None:
                given = self.broadcast(ref, (*kept, *pooled)).to(F64)
                given = (given != 0).to(F64) if is_condition else given
                weight = weight * self._padded(given, len(kept), extra).flatten(len(kept))
        return product * weight.unsqueeze(-2), rows, extra

    def _padded(self, value: Tensor, kept: int, extra: Sequence[int]) -> Tensor:
        for position, more in enumerate(extra):
            if more:
                shape = list(value.shape)
                shape[kept + position] = more
                value = torch.cat([value, value.new_zeros(shape)], dim=kept + position)
        return value

    def _joined(self, op: Pool | Count, own: Sequence[str]) -> tuple[list[str], list[str]]:
        """All axes of what is pooled, pooled ones in full; and those that are kept."""
        axes = {axis for axis, _ in op.over} | set(own)
        for ref in (op.where, op.weight):
            axes |= set(self.types[ref].axes) if ref is not None else set()
        named = {axis for axis, _ in op.over}
        full = {
            a if a in named else self.space.base(a) if self.space.base(a) in named else a
            for a in axes
        }
        joined = self.space.join(*((a,) for a in full))
        return list(joined), [a for a in joined if a not in named]

    def _shaped(
        self, flat: Tensor, kept: Sequence[str], pooled: Sequence[str], rows: list[int], type_: Type
    ) -> Tensor:
        """[kept..., pools] to one dimension for each axis of the result."""
        tensor = flat.reshape([*(self._size(a) for a in kept), *rows])
        names = [*kept, *pooled]
        wanted = [self.space.base(a) if a not in kept else a for a in type_.axes]
        order = [names.index(a) for a in wanted]
        dropped = [i for i in range(len(names)) if i not in order]
        return tensor.permute([*order, *dropped]).reshape([tensor.shape[i] for i in order])

    def _count(self, op: Count, type_: Type) -> Tensor:
        joined, kept = self._joined(op, ())
        weights, rows, _ = self._coefficients(op, joined, kept)
        pooled = [a for a in joined if a not in kept]
        total = weights.sum(-1).expand([*(self._size(a) for a in kept), math.prod(rows)])
        return self._shaped(total, kept, pooled, rows, type_)

    def _pool(self, op: Pool, type_: Type) -> Tensor:
        joined, kept = self._joined(op, self.types[op.value].axes)
        weights, rows, extra = self._coefficients(op, joined, kept)
        pooled = [a for a in joined if a not in kept]
        value = self._padded(self.broadcast(op.value, (*kept, *pooled)).to(F64), len(kept), extra)
        x = value.flatten(len(kept)).unsqueeze(-2)
        flat = self._statistic(op, x, weights, kept, pooled, rows, type_)
        flat = flat.expand([*(self._size(a) for a in kept), math.prod(rows)])
        result = tuple(a for a in type_.axes)
        own = Type("real", self.space.pooled(self.space.join(*((a,) for a in joined)), op.over))
        shaped = self._shaped(flat, kept, pooled, rows, own)
        if own.axes == result:
            return shaped
        self.values["%pool"], self.types["%pool"] = shaped, own
        return self.broadcast("%pool", result)

    def _statistic(
        self,
        op: Pool,
        x: Tensor,
        weights: Tensor,
        kept: Sequence[str],
        pooled: Sequence[str],
        rows: list[int],
        type_: Type,
    ) -> Tensor:
        total = weights.sum(-1)
        empty = total == 0

        def counted(terms: Tensor) -> Tensor:
            """What weighs nothing has no influence, not even as NaN, nor has its gradient."""
            return torch.where(weights != 0, terms, 0.0)

        def add_up(terms: Tensor) -> Tensor:
            return (weights * terms).sum(-1)

        x = counted(x)

        def average(terms: Tensor) -> Tensor:
            return torch.where(empty, 0.0, add_up(terms) / torch.where(empty, 1.0, total))

        match op.statistic:
            case "sum":
                return add_up(x)
            case "mean":
                return average(x)
            case "l1":
                return add_up(x.abs())
            case "l2":
                return _root(add_up(x * x))
            case "var":
                centre = counted(average(x).unsqueeze(-1))
                biased = average((x - centre) ** 2)
                return _unbiased(biased, total) if op.ddof else biased
            case "second":
                assert op.about is not None
                about = counted(self._about(op.about, kept, pooled, rows, op).unsqueeze(-1))
                return average((x - about) ** 2)
            case "max" | "min":
                sign = 1.0 if op.statistic == "max" else -1.0
                best = torch.where(weights != 0, sign * x, -torch.inf)
                if best.shape[-1] == 0:
                    return torch.zeros_like(total)
                return torch.where(empty, 0.0, sign * best.amax(-1))
        raise NotImplementedError(op.statistic)

    def _about(
        self, ref: Ref, kept: Sequence[str], pooled: Sequence[str], rows: list[int], op: Pool
    ) -> Tensor:
        """The centre of each pool: [kept..., pools]."""
        matrices = dict(op.over)
        axes = [*kept]
        for axis in pooled:
            cells = self.space.pooled((axis,), ((axis, matrices[axis]),))
            axes += cells
        value = self.aligned(ref, axes)
        full: list[int] = [*value.shape[: len(kept)]]
        remaining = list(value.shape[len(kept) :])
        for axis in pooled:
            has = bool(self.space.pooled((axis,), ((axis, matrices[axis]),)))
            full.append(remaining.pop(0) if has else 1)
        value = value.reshape(full)
        return value.expand([*value.shape[: len(kept)], *rows]).flatten(len(kept))

    # ---- updates

    def _updated(self, update: Update) -> Tensor:
        decl = next(b for b in self.program.buffers if b.name == update.buffer)
        axes = tuple(leaf for dim in decl.dims for leaf in self.space.leaves(dim))
        order = self.space.ordered(axes)
        value = self.broadcast(update.value, order).detach()
        if update.averages:
            momentum = self._momentum(update)
            old = self.broadcast(update.buffer, order).detach()
            value = (1 - momentum) * old + momentum * value
        stored = value.permute([order.index(a) for a in axes])
        return stored.reshape([n for dim in decl.dims for n in self.shapes[dim]])

    def _momentum(self, update: Update) -> float:
        if (
            isinstance(update.momentum, Hyper)
            and self.call.hypers.get(update.momentum.name) is None
        ):
            return 1 / self.call.batches
        return 1 / self.call.batches if update.momentum is None else self._number(update.momentum)


def _root(x: Tensor) -> Tensor:
    zero = x == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, x)))


def _unbiased(variance: Tensor, count: Tensor) -> Tensor:
    return variance * torch.where(count > 1, count / (count - 1), 1.0)


# The reference meaning of every elementwise row of the operation table.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "lt": lambda a, b: (a < b).to(F64),
    "le": lambda a, b: (a <= b).to(F64),
    "eq": lambda a, b: (a == b).to(F64),
    "ne": lambda a, b: (a != b).to(F64),
    "ge": lambda a, b: (a >= b).to(F64),
    "gt": lambda a, b: (a > b).to(F64),
    "sqrt": torch.sqrt,
    "rsqrt": lambda a: 1 / torch.sqrt(a),
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "relu": lambda a: torch.where(a > 0, a, 0 * a),
    "silu": lambda a: a * torch.sigmoid(a),
    "gelu": lambda a: a * (1 + torch.erf(a / math.sqrt(2))) / 2,
    "clamp": lambda a, low, high: torch.minimum(torch.maximum(a, low), high),
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    "rescale": lambda x, m, b, *a: (x - m) * math.prod(a) + b,
    "root": _root,
    "unbiased": _unbiased,
}
