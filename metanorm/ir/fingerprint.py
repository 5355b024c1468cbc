"""What a norm computes, apart from its names: equal fingerprints, equal norms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property

from metanorm.ir.aggregation import (
    Aggregation,
    Blocks,
    ByIndex,
    Causal,
    Chunks,
    Dense,
    Grouping,
    Interleave,
    Neighbours,
    Ones,
    Reach,
    Window,
)
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    BufferDecl,
    Cast,
    Count,
    Detach,
    Draw,
    Dtype,
    Expand,
    Eye,
    Init,
    Input,
    Let,
    Lookup,
    Map,
    Mode,
    Number,
    Op,
    Param,
    ParamDecl,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
    Update,
)
from metanorm.ir.operands import operands
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

COMMUTATIVE = {"add", "mul", "min", "max"}


def fingerprint(program: Program) -> str:
    """A digest of an optimised program in which names count only by what they stand for."""
    return Fingerprint(program).digest


class Fingerprint:
    """The digest of a program, and in `names` what plays which part in it.

    Where two digests are equal, so are the parts, and the names of a part play the same one.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops: Mapping[Ref, Op] = program.index.ops
        self.axes = {axis.name: self._axis(i) for i, axis in enumerate(program.axes)}
        self.parts: dict[tuple[str, str], str] = {}  # by sort and name
        self.done: dict[Ref, str] = {}
        self.depth = 0  # of loops

    @property
    def names(self) -> dict[str, str]:
        """The name of each part: hyperparameters, parameters, buffers, what pools."""
        assert self.digest
        return {part: name for (_, name), part in self.parts.items()}

    @cached_property
    def digest(self) -> str:
        """Equal for norms that compute the same."""
        program = self.program
        parts: list[str] = [program.target]
        parts += [self._settled(ref) for _, ref in program.outputs]
        names = [name for name, _ in program.outputs]
        parts += [f"{names.index(n)} as {self._dtype(to)}" for n, to in program.output_dtypes]
        parts += [self._update(update) for update in program.updates]
        split = {part for axis in program.axes for part in axis.parts}
        for axis in program.axes:  # a whole axis is as long as the user says
            if axis.name in split and axis.size is not None:
                parts.append(f"{self.axes[axis.name]} of {self._scalar(axis.size)}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _update(self, update: Update) -> str:
        momentum = "-" if update.momentum is None else self._scalar(update.momentum)
        how = "average" if update.averages else "store"
        buffer = self._kept(update.buffer)
        return f"{self._settled(update.value)} into {buffer} by {momentum} {how} in {update.when}"

    def _axis(self, position: int) -> str:
        return f"a{position}{'*' if self.program.axes[position].variadic else ''}"

    def _dims(self, dims: tuple[str, ...]) -> str:
        return ",".join(self.axes[d] for d in dims)

    def _kept(self, name: str) -> str:
        """A buffer, by its axes and its first value, and by which of those it is."""
        buffer = self.program.index.buffers[name]
        return self._nth(f"buffer[{self._dims(buffer.dims)} {self._begins(buffer)}]", name)

    def _input(self, name: str) -> str:
        """An input, by its position, its sort and what stands for it where it is not given."""
        names = [i.name for i in self.program.inputs]
        decl = self.program.inputs[names.index(name)]
        default = names.index(decl.default) if decl.default in names else decl.default
        table = self.axes[decl.table] if decl.table else "-"
        given = "" if decl.required else repr(default)
        dims = self._dims(decl.dims)
        return f"input {names.index(name)} {decl.sort}[{dims}] of {table} {given}"

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
        return "; ".join(f"{self.axes[axis]}: {self._matrix(matrix)}" for axis, matrix in over)

    def _matrix(self, matrix: Grouping) -> str:
        """A matrix by its numbers, and by which input or argument it comes from."""
        match matrix:
            case Ones():
                return "ones"
            case Blocks(number) | Chunks(number) | Interleave(number):
                return f"{type(matrix).__name__} {self._scalar(number)}"
            case ByIndex(name) | Dense(name):
                return self._source(name)
            case Window(width, edge):
                return f"window {self._scalar(width)} {edge}"
            case Causal(width):
                return f"causal {self._scalar(width) if width is not None else '-'}"
            case Neighbours(name, loop):
                return f"neighbours {self._source(name)} {loop}"
            case Reach(back, ahead):
                ends = ("-" if end is None else self._scalar(end) for end in (back, ahead))
                return "reach {} {}".format(*ends)
            case _:
                raise TypeError(f"no digest of the matrix {type(matrix).__name__}")

    def _dtype(self, dtype: Dtype) -> str:
        """A dtype by its name, or by whose it is."""
        if not dtype.like:
            return dtype.name
        inputs = [i.name for i in self.program.inputs]
        if dtype.name in inputs:
            return f"that of {self._input(dtype.name)}"
        return f"that of {self._op(Param(dtype.name))}"

    def _source(self, name: str) -> str:
        """What a matrix is made from: an input, or an argument of the constructor."""
        if any(decl.name == name for decl in self.program.inputs):
            return self._input(name)
        return self._nth("pool", name)

    def _settled(self, ref: Ref) -> str:
        """The digest of a value, after those of its operands: chains may be long, and nest not."""
        waiting = [] if ref in self.done else [ref]
        while waiting:
            missing = [r for r in operands(self.ops[waiting[-1]]) if r not in self.done]
            if missing:
                waiting += reversed(missing)
            else:
                self._value(waiting.pop())
        return self.done[ref]

    def _value(self, ref: Ref) -> str:
        if ref not in self.done:
            text = self._op(self.ops[ref])
            self.done[ref] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.done[ref]

    def _squared(self, pool: Pool) -> Ref | None:
        """What a pool is the mean square of, in either way to write it."""
        if pool.ddof:
            return None
        if pool.statistic == "second":
            return pool.value if self.ops.get(pool.about or "") == Number(Const(0)) else None
        square = self.ops.get(pool.value)
        if pool.statistic == "mean" and isinstance(square, Map) and square.function == "mul":
            return square.arguments[0] if len(set(square.arguments)) == 1 else None
        return None

    def _begins(self, decl: ParamDecl | BufferDecl) -> str:
        """What a parameter or a buffer begins with."""
        if decl.from_weight:
            return self._within(decl.from_weight, {})._settled(decl.from_weight[-1].name)
        if decl.first:
            first = self._within(decl.first, {})._settled(decl.first[-1].name)
            return f"{self._init(decl.init)} first {first}"
        return self._init(decl.init)

    def _within(self, body: tuple[Let, ...], given: Mapping[Ref, str]) -> Fingerprint:
        """The digests of bindings that have names of their own, and read these values too."""
        inner = copy(self)
        inner.ops = {let.name: let.op for let in body}
        inner.done = {**given}
        return inner

    def _repeat(self, op: Repeat) -> str:
        """What is carried counts by its position, and what is read from outside by its digest."""
        begins = " ".join(self._value(ref) for ref in op.initial)
        outside = {ref: self._value(ref) for ref in operands(op)}
        carried = {ref: f"carried {self.depth} {i}" for i, ref in enumerate(op.inside)}
        inner = self._within(op.body, {**outside, **carried})
        inner.depth += 1
        ends = " ".join(inner._settled(ref) for ref in op.results)
        return f"repeat {self._scalar(op.count)} from {begins} to {ends}: {op.position}"

    def _init(self, init: Init) -> str:
        if isinstance(init, Draw):
            return f"{init.distribution} {[self._scalar(a) for a in init.arguments]}"
        if isinstance(init, Eye):
            return f"eye {init.blocks}"
        return self._scalar(init)

    def _op(self, op: Op) -> str:
        value: Callable[[Ref | None], str] = lambda ref: "-" if ref is None else self._value(ref)  # noqa: E731
        match op:
            case Number(scalar):
                return self._scalar(scalar)
            case Input(name):
                return self._input(name)
            case Param(name):
                param = self.program.index.params[name]
                bounds = (param.low, param.high)
                limits = [self._scalar(b) if b is not None else "-" for b in bounds]
                begins = self._begins(param)
                what = f"{self._dims(param.dims)} {begins} {limits}"
                if param.switches and repr(param.absent) != begins:
                    what += f" else {param.absent!r}"
                return f"{self._nth(f'param[{what}]', name)}"
            case Buffer(name):
                return self._kept(name)
            case Map(function, arguments):
                given = [self._value(a) for a in arguments]
                ordered = sorted(given) if function in COMMUTATIVE else given
                return f"{function}({', '.join(ordered)})"
            case Pool() if (root := self._squared(op)) is not None:
                rest = f"{value(op.where)} {value(op.weight)}"
                return f"mean of squares of {value(root)} over {self._over(op.over)} {rest}"
            case Pool():
                rest = f"{value(op.where)} {value(op.weight)} {value(op.about)} {op.ddof}"
                if op.share is not None:
                    rest += f" share {self._scalar(op.share)}"
                return f"{op.statistic} {value(op.value)} over {self._over(op.over)} {rest}"
            case Count(over, where, weight):
                return f"count {self._over(over)} {value(where)} {value(weight)}"
            case AxisMap(function, inner, axis, argument):
                radius = self._scalar(argument) if argument is not None else "-"
                return f"{function} {value(inner)} {self.axes[axis]} {radius}"
            case Lookup(table, axis, index):
                chosen = str(index) if isinstance(index, int) else value(index)
                return f"lookup {value(table)} {self.axes[axis]} {chosen}"
            case Rename(inner, old, new):
                return f"rename {value(inner)} {self.axes[old]} {self.axes[new]}"
            case Expand(inner, axes):
                return f"expand {value(inner)} {self._dims(axes)}"
            case Position(axis):
                return f"position {self.axes[axis]}"
            case Detach(inner):
                return f"stop {value(inner)}"
            case Draw(axes=axes):
                drawn = f"{self._init(op)} {self._dims(axes)}"
                return self._nth(drawn, f"{op.number}")
            case Cast(inner, to):
                return f"cast {value(inner)} {self._dtype(to)}"
            case Mode(train, evaluated, buffer):
                kept = self._kept(buffer) if buffer is not None else "-"
                return f"mode {value(train)} {value(evaluated)} {kept}"
            case Repeat():
                return self._repeat(op)
            case _:
                raise TypeError(f"no digest of the operation {type(op).__name__}")
