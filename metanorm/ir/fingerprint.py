"""A fingerprint of what a norm computes, whatever its names: equal fingerprints, equal norms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from functools import cached_property

from metanorm.ir.aggregation import (
    Aggregation,
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    Ones,
    Reach,
    Window,
)
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
    Eye,
    Init,
    Input,
    Inside,
    Let,
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
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import BufferDecl, ParamDecl, Program, Update
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

COMMUTATIVE = {"add", "mul", "min", "max"}


def fingerprint(program: Program) -> str:
    """The digest of an optimised program. It does not depend on names."""
    return Fingerprint(program).digest


class Fingerprint:
    """The digest of a program, and in `names` the name of each of its parts.

    Two programs with equal digests have the same parts; `names` maps a part to its name in each.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops: Mapping[Ref, Op] = program.index.ops
        self.axes = {axis.name: self._axis(i) for i, axis in enumerate(program.axes)}
        self.parts: dict[tuple[str, str], str] = {}  # by sort and name
        self.digests: dict[Ref, str] = {}
        self.depth = 0  # of loops

    @property
    def names(self) -> dict[str, str]:
        """The name of each part: of hyperparameters, parameters, buffers and pooling arguments."""
        assert self.digest
        return {part: name for (_, name), part in self.parts.items()}

    @cached_property
    def digest(self) -> str:
        """The digest, equal for norms that compute the same."""
        program = self.program
        parts: list[str] = [program.target]
        parts += [self._digest_of(ref) for _, ref in program.outputs]
        names = [name for name, _ in program.outputs]
        parts += [f"{names.index(n)} as {self._dtype(to)}" for n, to in program.output_dtypes]
        parts += [self._update(update) for update in program.updates]
        part_axes = {part for axis in program.axes for part in axis.parts}
        for axis in program.axes:  # a whole axis is as long as the user says
            if axis.name in part_axes and axis.size is not None:
                parts.append(f"{self.axes[axis.name]} of {self._scalar(axis.size)}")
        if program.backward is not None:
            backward, inputs = program.backward, [decl.name for decl in program.inputs]
            stated = ",".join(str(inputs.index(name)) for name in backward.inputs)
            parts.append(f"backward of {stated}: {fingerprint(backward.program)}")
            parts += [self._kept(buffer.name) for buffer in backward.program.buffers]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _update(self, update: Update) -> str:
        momentum = "-" if update.momentum is None else self._scalar(update.momentum)
        how = "average" if update.averages else "store"
        buffer = self._kept(update.buffer)
        return f"{self._digest_of(update.value)} into {buffer} by {momentum} {how} in {update.when}"

    def _axis(self, position: int) -> str:
        return f"a{position}{'*' if self.program.axes[position].variadic else ''}"

    def _dims(self, dims: tuple[str, ...]) -> str:
        return ",".join(self.axes[d] for d in dims)

    def _piece(self, name: str) -> str:
        """A run of positions: of which axis, from where, and how long."""
        piece = self.program.index.space[name]
        whole, start = piece.piece_of or (name, Const(0.0))
        length = "-" if piece.size is None else self._scalar(piece.size)
        return f"{self.axes[whole]} from {self._scalar(start)} {length}"

    def _kept(self, name: str) -> str:
        """A buffer by its axes and initial value, and its number among those that share them."""
        buffer = self.program.index.buffers[name]
        return self._nth(f"buffer[{self._dims(buffer.dims)} {self._initial_text(buffer)}]", name)

    def _input(self, name: str) -> str:
        """An input by its position, its sort and its default."""
        names = [i.name for i in self.program.inputs]
        decl = self.program.inputs[names.index(name)]
        default = names.index(decl.default) if decl.default in names else decl.default
        table = self.axes[decl.table] if decl.table else "-"
        default_text = "" if decl.required else repr(default)
        dims = self._dims(decl.dims)
        sort = f"{decl.sort} by offsets" if decl.offsets else decl.sort
        sort += " of a piece" * decl.of_piece
        drawn = f" drawn {self._init(decl.drawn)}" if decl.drawn is not None else ""
        return f"input {names.index(name)} {sort}[{dims}] of {table} {default_text}{drawn}"

    def _nth(self, sort: str, name: str) -> str:
        count = sum(of == sort for of, _ in self.parts)
        return self.parts.setdefault((sort, name), f"{sort}{count}")

    def _scalar(self, scalar: Scalar) -> str:
        match scalar:
            case Const(value):
                return repr(value)
            case Hyper(name):
                return self._nth("hyper", name)
            case SizeOf(axis):
                return f"size {self.axes[axis]}"
            case Apply(function, arguments):
                return f"{function}({', '.join(self._scalar(a) for a in arguments)})"

    def _over(self, over: Aggregation) -> str:
        return "; ".join(f"{self.axes[axis]}: {self._matrix(grouping)}" for axis, grouping in over)

    def _matrix(self, grouping: Grouping) -> str:
        """A grouping by its numbers, and by the input or argument it comes from."""
        match grouping:
            case Ones():
                return "ones"
            case RegularPartition(number):
                return f"{type(grouping).__name__} {self._scalar(number)}"
            case ByIndex(name) | Dense(name):
                return self._source(name)
            case Window(width, edge, within):
                return f"window {self._scalar(width)} {edge}{self._within(within)}"
            case Causal(width, within):
                reach = self._scalar(width) if width is not None else "-"
                return f"causal {reach}{self._within(within)}"
            case Neighbours(name, loop):
                return f"neighbours {self._source(name)} {loop}"
            case Reach(back, ahead, within):
                ends = ("-" if end is None else self._scalar(end) for end in (back, ahead))
                return "reach {} {}".format(*ends) + self._within(within)
            case _:
                raise TypeError(f"no digest of the grouping {type(grouping).__name__}")

    def _dtype(self, dtype: Dtype) -> str:
        """A dtype by its name, or by the tensor that has it."""
        if not dtype.like:
            return dtype.name
        inputs = [i.name for i in self.program.inputs]
        if dtype.name in inputs:
            return f"that of {self._input(dtype.name)}"
        return f"that of {self._op(Param(dtype.name))}"

    def _within(self, offsets: str | None) -> str:
        return f" within {self._source(offsets)}" if offsets else ""

    def _source(self, name: str) -> str:
        """The source of a grouping: an input, or an argument of the constructor."""
        if any(decl.name == name for decl in self.program.inputs):
            return self._input(name)
        return self._nth("pool", name)

    def _digest_of(self, ref: Ref) -> str:
        """The digest of a value, after those of its operands. No recursion: chains may be long."""
        stack = [] if ref in self.digests else [ref]
        while stack:
            missing = [r for r in operands(self.ops[stack[-1]]) if r not in self.digests]
            if missing:
                stack += reversed(missing)
            else:
                self._value(stack.pop())
        return self.digests[ref]

    def _value(self, ref: Ref) -> str:
        if ref not in self.digests:
            text = self._op(self.ops[ref])
            self.digests[ref] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.digests[ref]

    def _squared_value(self, pool: Pool) -> Ref | None:
        """The value of which a pool is the mean square, however that is written."""
        if pool.ddof:
            return None
        if pool.statistic == "second":
            return pool.value if self.ops.get(pool.about or "") == Number(Const(0)) else None
        square = self.ops.get(pool.value)
        if pool.statistic == "mean" and isinstance(square, Map) and square.function == "mul":
            return square.arguments[0] if len(set(square.arguments)) == 1 else None
        return None

    def _initial_text(self, decl: ParamDecl | BufferDecl) -> str:
        """The initial value of a parameter or a buffer."""
        if decl.from_weight:
            return self._nested(decl.from_weight, {})._digest_of(decl.from_weight[-1].name)
        if decl.first:
            first = self._nested(decl.first, {})._digest_of(decl.first[-1].name)
            return f"{self._init(decl.init)} first {first}"
        return self._init(decl.init)

    def _nested(self, body: tuple[Let, ...], outer: Mapping[Ref, str]) -> Fingerprint:
        """A fingerprint of bindings with names of their own, which also read these outer values."""
        inner = copy(self)
        inner.ops = {let.name: let.op for let in body}
        inner.digests = {**outer}
        return inner

    def _repeat(self, op: Repeat) -> str:
        """A loop: a carried value counts by its position, an outer value by its digest."""
        start = " ".join(self._value(ref) for ref in op.initial)
        outside = {ref: self._value(ref) for ref in operands(op)}
        carried = {ref: f"carried {self.depth} {i}" for i, ref in enumerate(op.inside)}
        inner = self._nested(op.body, {**outside, **carried})
        inner.depth += 1
        end = " ".join(inner._digest_of(ref) for ref in op.results)
        return f"repeat {self._scalar(op.count)} from {start} to {end}: {op.position}"

    def _init(self, init: Init) -> str:
        if isinstance(init, Draw):
            return f"{init.distribution} {[self._scalar(a) for a in init.arguments]}"
        if isinstance(init, Eye):
            return f"eye {init.blocks}"
        return self._scalar(init)

    def _optional(self, ref: Ref | None) -> str:
        return "-" if ref is None else self._value(ref)

    def _op(self, op: Op) -> str:
        """An operation by its sort, its numbers, its axes and the digests of its operands."""
        value, axes = self._value, self.axes
        match op:
            case Number(scalar):
                return self._scalar(scalar)
            case Input(name):
                return self._input(name)
            case Param(name):
                return self._param(name)
            case Buffer(name):
                return self._kept(name)
            case Map(function, arguments):
                arg_digests = [value(a) for a in arguments]
                ordered = sorted(arg_digests) if function in COMMUTATIVE else arg_digests
                return f"{function}({', '.join(ordered)})"
            case Pool():
                return self._pool(op)
            case Count(over, where, weight):
                kept = f"{self._optional(where)} {self._optional(weight)}"
                return f"count {self._over(over)} {kept}"
            case AxisMap():
                return self._axis_map(op)
            case Recurrence(inner, decay, start, axis, reverse, before):
                parts = f"{value(inner)} {value(decay)} {value(start)}"
                return f"scan {parts} {axes[axis]} {reverse} {before}"
            case Lookup(table, axis, index):
                chosen = str(index) if isinstance(index, int) else value(index)
                return f"lookup {value(table)} {axes[axis]} {chosen}"
            case Piece(inner, piece):
                return f"piece {value(inner)} {self._piece(piece)}"
            case Concat(inners, pieces, axis):
                runs = " ".join(f"{value(r)} {self._piece(p)}" for r, p in zip(inners, pieces))
                return f"concat {runs} {axes[axis]}"
            case Inside(piece):
                return f"inside {self._piece(piece)}"
            case Rename(inner, old, new):
                return f"rename {value(inner)} {axes[old]} {axes[new]}"
            case Expand(inner, dims):
                return f"expand {value(inner)} {self._dims(dims)}"
            case Position(axis):
                return f"position {axes[axis]}"
            case Detach(inner):
                return f"stop {value(inner)}"
            case Draw(axes=dims):
                return self._nth(f"{self._init(op)} {self._dims(dims)}", f"{op.number}")
            case Cast(inner, to):
                return f"cast {value(inner)} {self._dtype(to)}"
            case Mode(train, evaluated, buffer):
                buffer_text = self._kept(buffer) if buffer is not None else "-"
                return f"mode {value(train)} {value(evaluated)} {buffer_text}"
            case Repeat():
                return self._repeat(op)
            case _:
                raise TypeError(f"no digest of the operation {type(op).__name__}")

    def _param(self, name: str) -> str:
        """A parameter by its axes, initial value, bounds, and what it is where it is left out."""
        param = self.program.index.params[name]
        bounds = [self._scalar(b) if b is not None else "-" for b in (param.low, param.high)]
        initial = self._initial_text(param)
        sort = f"{self._dims(param.dims)} {initial} {bounds}"
        if param.switches and repr(param.absent) != initial:
            sort += f" else {param.absent!r}"
        return self._nth(f"param[{sort}]", name)

    def _pool(self, op: Pool) -> str:
        """A pool. Mean squares are the same however they are written."""
        over = self._over(op.over)
        counted = f"{self._optional(op.where)} {self._optional(op.weight)}"
        root = self._squared_value(op)
        if root is not None:
            return f"mean of squares of {self._value(root)} over {over} {counted}"
        rest = f"{counted} {self._optional(op.about)} {op.ddof}"
        if op.share is not None:
            rest += f" share {self._scalar(op.share)}"
        return f"{op.statistic} {self._value(op.value)} over {over} {rest}"

    def _axis_map(self, op: AxisMap) -> str:
        radius = self._scalar(op.argument) if op.argument is not None else "-"
        arriving = f" {self._value(op.adjoint)}" if op.adjoint is not None else ""
        return f"{op.function} {self._value(op.value)} {self.axes[op.axis]} {radius}{arriving}"
