"""What a norm computes, apart from its names: equal fingerprints, equal norms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from metanorm.ir.aggregation import Aggregation, ByIndex, Dense, matrix_text
from metanorm.ir.nodes import (
    Along,
    Buffer,
    BufferDecl,
    Count,
    Draw,
    Expand,
    Init,
    Input,
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
    Stop,
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
        self.ops = {let.name: let.op for let in program.body}
        self.axes = {axis.name: self._axis(i) for i, axis in enumerate(program.axes)}
        self.parts: dict[tuple[str, str], str] = {}  # by sort and name
        self.done: dict[Ref, str] = {}

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
        return f"{self._settled(update.value)} into {buffer} by {momentum} {how}"

    def _axis(self, position: int) -> str:
        return f"a{position}{'*' if self.program.axes[position].variadic else ''}"

    def _dims(self, dims: tuple[str, ...]) -> str:
        return ",".join(self.axes[d] for d in dims)

    def _kept(self, name: str) -> str:
        """A buffer, by its axes and its first value, and by which of those it is."""
        buffer = next(b for b in self.program.buffers if b.name == name)
        return self._nth(f"buffer[{self._dims(buffer.dims)} {self._begins(buffer)}]", name)

    def _input(self, name: str) -> str:
        """An input, by its position, its sort and what stands for it where it is not given."""
        names = [i.name for i in self.program.inputs]
        decl = self.program.inputs[names.index(name)]
        default = names.index(decl.default) if decl.default in names else decl.default
        return f"input {names.index(name)} {decl.sort} {'' if decl.required else repr(default)}"

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
        parts = []
        for axis, matrix in over:
            match matrix:
                case ByIndex(name) | Dense(name):
                    parts.append(f"{self.axes[axis]}: {self._nth('pool', name)}")
                case _:
                    parts.append(f"{self.axes[axis]}: {matrix_text(matrix)}")
        return "; ".join(parts)

    def _settled(self, ref: Ref) -> str:
        """The digest of a value, after those of its operands: chains may be long, and nest not."""
        waiting = [ref]
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
        if pool.statistic == "second":
            return pool.value if self.ops[pool.about or ""] == Number(Const(0)) else None
        square = self.ops[pool.value]
        if pool.statistic == "mean" and isinstance(square, Map) and square.function == "mul":
            return square.arguments[0] if len(set(square.arguments)) == 1 else None
        return None

    def _begins(self, decl: ParamDecl | BufferDecl) -> str:
        """What a parameter or a buffer begins with."""
        if decl.from_weight:
            inner = Fingerprint(replace(self.program, body=decl.from_weight))
            return inner._settled(decl.from_weight[-1].name)
        return self._init(decl.init)

    def _init(self, init: Init) -> str:
        if isinstance(init, Draw):
            return f"{init.distribution} {[self._scalar(a) for a in init.arguments]}"
        return self._scalar(init)

    def _op(self, op: Op) -> str:
        value: Callable[[Ref | None], str] = lambda ref: "-" if ref is None else self._value(ref)  # noqa: E731
        match op:
            case Number(scalar):
                return self._scalar(scalar)
            case Input(name):
                return self._input(name)
            case Param(name):
                param = next(p for p in self.program.params if p.name == name)
                bounds = (param.low, param.high)
                limits = [self._scalar(b) if b is not None else "-" for b in bounds]
                what = f"{self._dims(param.dims)} {self._begins(param)} {limits}"
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
                return f"{op.statistic} {value(op.value)} over {self._over(op.over)} {rest}"
            case Count(over, where, weight):
                return f"count {self._over(over)} {value(where)} {value(weight)}"
            case Along(function, inner, axis, argument):
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
            case Stop(inner):
                return f"stop {value(inner)}"
            case Draw(axes=axes):
                return f"{self._init(op)} {self._dims(axes)}"
            case Mode(train, evaluated, buffer):
                kept = self._kept(buffer) if buffer is not None else "-"
                return f"mode {value(train)} {value(evaluated)} {kept}"
            case _:
                return repr(op)
