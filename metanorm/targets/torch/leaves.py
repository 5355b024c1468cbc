"""Print operations without operands: inputs, parameters, buffers, numbers, draws, positions."""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Buffer, Draw, Let
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Scalar
from metanorm.targets.python.pyir import Assign, Attribute, Expr, IfElse, Name, Stmt
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Value, call, method


class LeafPrinter:
    """Prints the operations of one program that have no operands."""

    def __init__(self, context: Context) -> None:
        self.ctx = context

    def input(self, let: Let, name: str) -> None:
        """An input, which the head of the function has widened and split."""
        decl = self.ctx.program.index.inputs[name]
        dims = self.ctx.layouts.full_dims(decl.dims)
        optional = isinstance(decl.default, float) or (decl.sort == "mask" and not decl.required)
        optional = optional and decl.drawn is None  # only training reads what it has drawn
        self.ctx.values[let.name] = Value(Name(name), dims, optional=optional)

    def param(self, let: Let, name: str) -> None:
        """A parameter, which is `None` if a switch leaves it out."""
        decl = self.ctx.program.index.params[name]
        value = Value(Name(name), tuple(Dim(d) for d in decl.dims), optional=bool(decl.switches))
        self.ctx.values[let.name] = self._split(let, value, name, value.optional)

    def buffer(self, let: Let, name: str) -> None:
        """A buffer as it was at the start of the call."""
        decl = self.ctx.program.index.buffers[name]
        value = Value(self._before_updates(name), tuple(Dim(d) for d in decl.dims))
        self.ctx.values[let.name] = self._split(let, value, name, decl.tracked)

    def number(self, let: Let, scalar: Scalar) -> None:
        """A number of the spec or of the constructor."""
        self.ctx.values[let.name] = Value(self.ctx.lengths.number(scalar), number=True)

    def draw(self, let: Let, op: Draw, out: list[Stmt]) -> None:
        """Random numbers on the device and in the dtype of the first input."""
        dims = tuple(Dim(axis) for axis in let.type.axes)
        empty = method(Name(self.ctx.first), "new_empty", self.ctx.lengths.shape(dims))
        numbers = [self.ctx.lengths.number(a) for a in op.arguments]
        self.ctx.bind(let, method(empty, f"{op.distribution}_", *numbers), dims, out, "drawn")

    def position(self, let: Let, axis: str, out: list[Stmt]) -> None:
        """The positions along an axis, from zero on."""
        device = Attribute(Name(self.ctx.first), "device")
        dtype = Attribute(Name(self.ctx.first), "dtype")
        expr = call("torch.arange", self.ctx.lengths.of(axis), device=device, dtype=dtype)
        self.ctx.bind(let, expr, (Dim(axis),), out, "position")

    def _split(self, let: Let, value: Value, name: str, may_be_none: bool) -> Value:
        """A parameter or a buffer with its split axes, in a variable if it is read repeatedly.

        What may be `None` gets no variable: it is read where it is known to be there.
        """
        split = self.ctx.lengths.split(value)
        if may_be_none or split.expr == value.expr or self.ctx.use_counts[let.name] == 1:
            return split
        return replace(split, expr=self.ctx.set_up(f"split_{name}", split.expr))

    def _before_updates(self, buffer: str) -> Expr:
        """The value of a buffer at the start of the call, in the dtype of statistics.

        It is a copy if the function stores into the buffer and also needs the old value.
        """
        program = self.ctx.program
        other_updates = tuple(u for u in program.updates if u.buffer != buffer)
        if all(u.averages or u.buffer != buffer for u in program.updates):
            return call("runtime.widened", Name(buffer))
        read = reachable(replace(program, updates=other_updates))
        if all(let.op != Buffer(buffer) for let in program.body if let.name in read):
            return call("runtime.widened", Name(buffer))
        before = Name(self.ctx.local(f"old_{buffer}"))
        modes = {u.when for u in program.updates if u.buffer == buffer}
        copied: Expr = call("runtime.copied", Name(buffer))
        if modes == {"train"}:
            copied = IfElse(Name("training"), copied, Name(buffer))
        self.ctx.prologue.append(Assign((before,), call("runtime.widened", copied)))
        return before
