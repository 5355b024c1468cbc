"""Optimised IR to the body of a function over torch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Count,
    Detach,
    Draw,
    Exchange,
    Expand,
    FromSums,
    Input,
    Let,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Param,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.outputs import output_dims
from metanorm.ir.precision import params_to_widen
from metanorm.ir.reachable import outputs_without_first_input, reachable
from metanorm.ir.scalar import Const
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    IfElse,
    Literal,
    Name,
    Return,
    Stmt,
    Subscript,
    Tuple,
    names_in,
)
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.contractions import Contractions
from metanorm.targets.torch.empty import Apart, way_out
from metanorm.targets.torch.exchanges import ExchangePrinter
from metanorm.targets.torch.layout import Dim, Value, call, integer, method
from metanorm.targets.torch.lining import Lining
from metanorm.targets.torch.loops import LoopPrinter
from metanorm.targets.torch.maps import MapPrinter
from metanorm.targets.torch.modes import ModePrinter
from metanorm.targets.torch.pools import PoolPrinter


def statements(program: Program, taken: Sequence[str], result: str) -> tuple[Stmt, ...]:
    """The statements of a program's function.

    Printed twice where an optional value turns out to be needed even where it is absent, so that
    no line before asks whether it is there.
    """
    body = Body(program, taken, result)
    found = body.statements()
    if body.c.filled:
        found = Body(program, taken, result, body.c.filled).statements()
    return tuple(found)


class Body:
    """Prints one program; `result` is the class of its result, where there are several outputs."""

    def __init__(
        self, program: Program, taken: Iterable[str], result: str, filled: Iterable[Ref] = ()
    ) -> None:
        self.result = result
        self.taken = tuple(taken)
        self.filled = frozenset(filled)  # optional values that are needed even where absent
        self.c = Context(program, taken)
        self.ops = {name: let.op for name, let in self.c.lets.items()}
        self.flags = flags_of(program)
        self.lining = Lining(self.c)
        self.maps = MapPrinter(self.c, self.lining)
        self.pools = PoolPrinter(self.c, self.lining)
        self.contractions = Contractions(self.c)
        self.loops = LoopPrinter(self.c, self.lining, self.emit)
        self.modes = ModePrinter(self.c, self.lining, self.emit)
        self.exchanges = ExchangePrinter(self.c, self.lining, self.pools, self.modes.emit_needed)

    def statements(self) -> list[Stmt]:
        """The statements of the function."""
        body: list[Stmt] = []
        for let in self.c.program.body:
            if let.name in self.c.values or self.c.mode_placement[let.name] is not None:
                continue
            if isinstance(let.op, Mode):
                self.modes.modes(let, body)
            else:
                self.emit(let, body)
        result = self._result(body)
        if self.c.program.updates:
            name = Name(self.c.local("result"))
            body += [Assign((name,), result), *self.modes.updates()]
            result = name
        body.append(Return(result))
        inputs = self._widened()
        if self.c.program.target != "initial" and not self.c.program.divided:
            apart = self._of_others()
            inputs.append(way_out(self.c, self.result, apart))
        inputs += self.split_inputs()
        return [*inputs, *self.c.layouts.locals.values(), *self.c.prologue, *body]

    def _of_others(self) -> Apart:
        """The outputs after the first on which the first input has no influence, and what computes
        them: printed apart, for a call whose first input has no elements."""
        outputs = dict(outputs_without_first_input(self.c.program))
        outputs.pop(self.c.program.outputs[0][0], None)
        if not outputs:
            return Apart()
        apart = Body(self.c.program, self.taken, self.result, self.filled)
        body: list[Stmt] = []
        apart.modes.emit_needed(outputs.values(), body)
        known = {name: apart.output(name, ref, body) for name, ref in outputs.items()}
        body = [*apart.c.layouts.locals.values(), *apart.c.prologue, *body]
        used = set(names_in((*body, *known.values())))
        self.c.filled |= apart.c.filled
        split = [s for s in apart.split_inputs() if used.intersection(names_in(s.targets))]
        return Apart(known, (*split, *body))

    def _widened(self) -> list[Stmt]:
        """The dtype of statistics, and parameters that need it."""
        done: list[Stmt] = []
        for decl in self.c.program.inputs:
            name = Name(decl.name)
            if decl.sort == "tensor":
                wide = call("runtime.widened", name)
                if decl.name == self.c.first:
                    dtype = Attribute(name, "dtype")
                    done.append(Assign((Name("dtype"), name), Tuple((dtype, wide), bare=True)))
                else:
                    done += self._own_dtype(decl.name)
                    done.append(Assign((name,), wide))
        alone = params_to_widen(self.c.program)
        for param in self.c.program.params:
            done += self._own_dtype(param.name)
            if param.name in alone:
                name = Name(param.name)
                done.append(Assign((name,), call("runtime.widened", name)))
        return done

    def _own_dtype(self, name: str) -> list[Stmt]:
        """The dtype of a tensor as it came, where something is to have it."""
        local = self.c.dtypes.get(name)
        if local is None:
            return []
        own: Expr = Attribute(Name(name), "dtype")
        if name in self.c.may_be_absent:
            missing = Binary("is", (Name(name), Literal(None)))
            own = IfElse(missing, Name("dtype"), own)
        return [Assign((Name(local),), own)]

    def split_inputs(self) -> list[Assign]:
        """Inputs with split axes."""
        done: list[Assign] = []
        for decl in self.c.program.inputs:
            if decl.sort in ("tensor", "mask", "whole") or decl.table is not None:
                name = Name(decl.name)
                split = self.c.lengths.split(Value(name, tuple(Dim(d) for d in decl.dims)))
                if split.expr != name:
                    axes = ", ".join(self.c.shown(d.axis) for d in split.dims)
                    expr = split.expr
                    if isinstance(decl.default, float):
                        missing = Binary("is", (name, Literal(None)))
                        expr = IfElse(missing, Literal(None), expr)
                    done.append(Assign((name,), expr, axes))
        return done

    def _result(self, body: list[Stmt]) -> Expr:
        results = [self.output(name, ref, body) for name, ref in self.c.program.outputs]
        if len(results) == 1:
            return self.c.fitting(results[0], "y", body)
        bound = [self.c.fitting(r, n, body) for r, (n, _) in zip(results, self.c.program.outputs)]
        return call(self.result, *bound)

    def output(self, name: str, ref: Ref, body: list[Stmt]) -> Expr:
        """An output as it is returned, in its dtype."""
        dims = output_dims(self.c.program, name, ref)
        wanted = tuple(d.axis for d in self.c.layouts.frame(dims))
        value = self.c.present(ref)
        if not value.number and self._is_turned(value, wanted):
            value = self.c.named(self.c.layouts.compact(value), body)
        return method(self._stored(value, wanted), "to", self.c.dtype_of(name))

    def _is_turned(self, value: Value, wanted: tuple[str, ...]) -> bool:
        """Whether dimensions change places, for which a value is mentioned several times."""
        own = [d.axis for d in value.dims if d.full]
        return own != [axis for axis in wanted if axis in own]

    def _stored(self, value: Value, wanted: tuple[str, ...]) -> Expr:
        """A value as it is returned: whole axes, and only those that are wanted."""
        dims = tuple(Dim(axis) for axis in wanted)
        value = self.lining.spread(value, wanted)
        if dims != self.c.layouts.frame(self.c.program.inputs[0].dims):
            value = self.c.layouts.compact(value)
        expr = self.c.layouts.aligned(value, dims) if value.dims else value.expr
        if value.number:
            first = Name(self.c.first)
            return method(first, "new_full", self.c.lengths.shape(dims), expr)
        if {d.axis for d in value.dims if d.full} != set(wanted) or value.loose:
            expr = method(expr, "expand", self.c.lengths.shape(dims))
        return self.c.lengths.merged(expr, dims)

    def emit(self, let: Let, out: list[Stmt]) -> None:
        """The statements of one binding."""
        self._emit(let, out)
        if let.name in self.filled:
            self.c.present(let.name)

    def _emit(self, let: Let, out: list[Stmt]) -> None:
        match let.op:
            case Input(name):
                self._input(let, name)
            case Param(name):
                decl = self.c.program.index.params[name]
                value = Value(Name(name), tuple(Dim(d) for d in decl.dims))
                split = replace(self.c.lengths.split(value), optional=bool(decl.switches))
                self.c.values[let.name] = split
            case Buffer(name):
                dims = next(b.dims for b in self.c.program.buffers if b.name == name)
                before = self._before_updates(name)
                self.c.values[let.name] = self.c.lengths.split(
                    Value(before, tuple(Dim(d) for d in dims))
                )
            case Number(scalar):
                self.c.values[let.name] = Value(self.c.lengths.number(scalar), number=True)
            case Draw():
                drawn_on = tuple(Dim(axis) for axis in let.type.axes)
                sizes = self.c.lengths.shape(drawn_on)
                empty = method(Name(self.c.first), "new_empty", sizes)
                numbers = [self.c.lengths.number(a) for a in let.op.arguments]
                drawn = method(empty, f"{let.op.distribution}_", *numbers)
                self.c.bind(let, drawn, drawn_on, out, "drawn")
            case Position(axis):
                device = Attribute(Name(self.c.first), "device")
                dtype = Attribute(Name(self.c.first), "dtype")
                expr = call("torch.arange", self.c.lengths.of(axis), device=device, dtype=dtype)
                self.c.bind(let, expr, (Dim(axis),), out, "position")
            case Map() if flag_of(let.op, self.ops, self.flags):
                self.modes.flagged(let, let.op, out)
            case Map():
                if let.name not in self.contractions.absorbed:
                    self.maps.map(let, let.op, out)
            case Pool() if let.name in self.contractions.factors:
                self.contractions.contract(let, out)
            case Pool():
                self.pools.pool(let, let.op, out)
            case Count():
                self.pools.count(let, let.op, out)
            case AxisMap():
                self._along(let, let.op, out)
            case Lookup():
                self._lookup(let, let.op, out)
            case Rename(ref, old, new):
                value = self.c.present(ref)
                renamed = (replace(d, axis=new if d.axis == old else d.axis) for d in value.dims)
                self.c.values[let.name] = replace(value, dims=tuple(renamed))
            case Expand(ref):
                self._expand(let, ref, out)
            case Detach(ref):
                value = self.c.present(ref)
                stopped = value.expr if value.number else method(value.expr, "detach")
                self.c.keep(let, replace(value, expr=stopped), out, "fixed")
            case Cast(ref, to):
                value = self.c.counted(ref, self.c.present(ref))
                whole = self.c.tensor(value.expr) if value.number else value.expr
                rounded = call("runtime.rounded", whole, self.c.dtype(to))
                self.c.keep(let, replace(value, expr=rounded, number=False), out, "rounded")
            case Mode():
                self.modes.modes(let, out)
            case Exchange():
                self.exchanges.exchange(let, out)
            case Near():
                self.exchanges.near(let, let.op, out)
            case FromSums():
                self.exchanges.from_sums(let, let.op, out)
            case Repeat():
                self.loops.repeat(let, let.op, out)

    def _along(self, let: Let, op: AxisMap, out: list[Stmt]) -> None:
        """Shares along an axis."""
        value = self.c.present(op.value)
        if value.loose:
            value = self.lining.whole(value, let.type.axes)
        value = self.c.named(self.c.counted(op.value, value), out)
        place = [d.axis for d in value.dims].index(op.axis)
        at = self.c.layouts.position(value.dims, place)
        if op.function == "softmax":
            expr = call("torch.softmax", value.expr, dim=at)
        else:
            assert op.argument is not None
            radius = self.c.lengths.number(op.argument)
            expr = call(f"runtime.{op.function}", value.expr, radius, dim=at)
        self.c.bind(let, expr, value.dims, out, "share")

    def _before_updates(self, buffer: str) -> Expr:
        """A buffer as it is when the call begins, widened; of one that is stored into, a copy."""
        program = self.c.program
        others = tuple(u for u in program.updates if u.buffer != buffer)
        if all(u.averages or u.buffer != buffer for u in program.updates):
            return call("runtime.widened", Name(buffer))
        read = reachable(replace(program, updates=others))
        if all(let.op != Buffer(buffer) for let in program.body if let.name in read):
            return call("runtime.widened", Name(buffer))
        before = Name(self.c.local(f"old_{buffer}"))
        modes = {u.when for u in program.updates if u.buffer == buffer}
        copied: Expr = call("runtime.copied", Name(buffer))
        if modes == {"train"}:
            copied = IfElse(Name("training"), copied, Name(buffer))
        self.c.prologue.append(Assign((before,), call("runtime.widened", copied)))
        return before

    def _input(self, let: Let, name: str) -> None:
        decl = self.c.program.index.inputs[name]
        dims = self.c.layouts.frame(decl.dims)
        optional = isinstance(decl.default, float) or (decl.sort == "mask" and not decl.required)
        self.c.values[let.name] = Value(Name(name), dims, optional=optional)

    def _lookup(self, let: Let, op: Lookup, out: list[Stmt]) -> None:
        table = self.c.named(self.c.counted(op.table, self.c.present(op.table)), out)
        place = [d.axis for d in table.dims].index(op.axis)
        at = self.c.layouts.position(table.dims, place)
        rest = tuple(d for i, d in enumerate(table.dims) if i != place)
        if isinstance(op.index, int):
            number = integer(op.index)
            if not isinstance(self.c.space[op.axis].size, Const):
                axis = Literal(self.c.shown(op.axis))
                taken = call("runtime.at", table.expr, at, number, axis)
                self.c.bind(let, taken, rest, out, "item")
                return
            first = Subscript(table.expr, (number,))
            item = method(table.expr, "select", at, number) if place else first
            self.c.keep(let, Value(item, rest), out, "item")
            return
        index = self.c.values[op.index]
        if place:
            table = Value(method(table.expr, "movedim", at, integer(0)), table.dims)
        name = Literal(self.c.argument_of(op.index))
        expr = call("runtime.chosen", table.expr, index.expr, name)
        self.c.keep(let, Value(expr, (*index.dims, *rest)), out, "chosen")

    def _expand(self, let: Let, ref: Ref, out: list[Stmt]) -> None:
        dims = tuple(Dim(axis) for axis in let.type.axes)
        value = self.c.present(ref)
        if value.number:
            sizes = self.c.lengths.shape(dims)
            value = Value(method(Name(self.c.first), "new_full", sizes, value.expr), dims)
        self.c.keep(let, self.lining.whole(value, let.type.axes), out, "value")
