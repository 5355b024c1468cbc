"""Print an optimised program as the body of a function over torch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metanorm.ir.flags import flag_of, flags_of
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
    Let,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
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
)
from metanorm.ir.outputs import output_dims
from metanorm.ir.precision import params_to_widen
from metanorm.ir.program import Program
from metanorm.ir.reachable import outputs_without_first_input
from metanorm.ir.scalar import Const
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    IfElse,
    Literal,
    Name,
    Stmt,
    Subscript,
    Tuple,
    names_in,
)
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context, returned
from metanorm.targets.torch.contractions import Contractions
from metanorm.targets.torch.counts import CountPrinter
from metanorm.targets.torch.declared_shapes import demand_drawn
from metanorm.targets.torch.empty import IndependentOutputs, empty_input_guard
from metanorm.targets.torch.exchanges import ExchangePrinter
from metanorm.targets.torch.layout import Dim, Value, call, integer, method
from metanorm.targets.torch.leaves import LeafPrinter
from metanorm.targets.torch.loops import LoopPrinter
from metanorm.targets.torch.maps import MapPrinter
from metanorm.targets.torch.modes import ModePrinter
from metanorm.targets.torch.pieces import PiecePrinter
from metanorm.targets.torch.pools import PoolPrinter
from metanorm.targets.torch.scan import ScanPrinter
from metanorm.targets.torch.sweep_calls import PrintedSweep, SweepCalls


def statements(
    program: Program, used_names: Sequence[str], result: str, sweeps: Sequence[PrintedSweep] = ()
) -> tuple[Stmt, ...]:
    """The statements of a program's function, which calls the functions of its `sweeps`.

    If an optional value turns out to be needed even when it is `None`, the body is printed a second
    time, so that no earlier line tests it for `None`.
    """
    body = Body(program, used_names, result, (), sweeps)
    printed = body.statements()
    if body.ctx.filled:
        printed = Body(program, used_names, result, body.ctx.filled, sweeps).statements()
    return tuple(printed)


class Body:
    """Prints one program. `result` is the class of the result, if there are several outputs.

    Without one, they are a tuple.
    """

    def __init__(
        self,
        program: Program,
        used_names: Iterable[str],
        result: str,
        filled: Iterable[Ref] = (),
        sweeps: Sequence[PrintedSweep] = (),
    ) -> None:
        self.result = result
        self.used_names = tuple(used_names)
        self.filled = frozenset(filled)  # optional values that are needed even when `None`
        # What a sweep takes and gives is in the dtype of statistics, or in that of exact ones.
        self.is_sweep = program.target == "sweep"
        self.ctx = Context(program, used_names)
        self.ops = {name: let.op for name, let in self.ctx.lets.items()}
        self.flags = flags_of(program)
        self.broadcaster = Broadcaster(self.ctx)
        self.leaves = LeafPrinter(self.ctx)
        self.maps = MapPrinter(self.ctx, self.broadcaster)
        self.pools = PoolPrinter(self.ctx, self.broadcaster)
        self.counts = CountPrinter(self.ctx, self.broadcaster, self.pools)
        self.contractions = Contractions(self.ctx, self.broadcaster)
        self.loops = LoopPrinter(self.ctx, self.broadcaster, self.contractions, self.emit)
        self.pieces = PiecePrinter(self.ctx, self.broadcaster)
        self.modes = ModePrinter(self.ctx, self.broadcaster, self.emit)
        self.scans = ScanPrinter(self.ctx, self.broadcaster, self.modes.emit_needed)
        self.exchanges = ExchangePrinter(
            self.ctx, self.broadcaster, self.pools, self.modes.emit_needed
        )
        self.sweeps = SweepCalls(self.ctx, self.broadcaster, sweeps, self.modes.emit_needed)

    def statements(self) -> list[Stmt]:
        """The statements of the function."""
        body: list[Stmt] = []
        for let in self.ctx.program.body:
            if let.name in self.ctx.values or self.ctx.mode_placement[let.name] is not None:
                continue
            if isinstance(let.op, Mode):
                self.modes.modes(let, body)
            else:
                self.emit(let, body)
        result = self._result(body)
        if not self.ctx.program.outputs:
            body += self.modes.updates()
        elif self.ctx.program.updates:
            name = Name(self.ctx.local("result"))
            body += [Assign((name,), result), *self.modes.updates()]
            result = name
        if self.ctx.program.outputs:
            body.append(returned(result, body))
        head = [*demand_drawn(self.ctx.program), *self._widened()]
        is_whole = self.ctx.program.target not in ("initial", "backward", "sweep")
        if is_whole and not self.ctx.program.divided:
            independent = self._independent_outputs()
            head.append(empty_input_guard(self.ctx, self.result, independent))
        head += self.split_inputs()
        return self._with_first_line(
            [*head, *self.ctx.layouts.locals.values(), *self.ctx.prologue, *body]
        )

    def _independent_outputs(self) -> IndependentOutputs:
        """The further outputs that do not depend on the first input, and their statements.

        They are printed a second time, for calls whose first input has no elements.
        """
        outputs = dict(outputs_without_first_input(self.ctx.program))
        if self.ctx.program.keeps_shape or self.ctx.program.target == "loss":
            outputs.pop(self.ctx.program.outputs[0][0], None)
        if not outputs:
            return IndependentOutputs()
        independent = Body(self.ctx.program, self.used_names, self.result, self.filled)
        body: list[Stmt] = []
        independent.modes.emit_needed(outputs.values(), body)
        exprs = {name: independent.output(name, ref, body) for name, ref in outputs.items()}
        body = [*independent.ctx.layouts.locals.values(), *independent.ctx.prologue, *body]
        used = set(names_in((*body, *exprs.values())))
        self.ctx.filled |= independent.ctx.filled
        split = [s for s in independent.split_inputs() if used.intersection(names_in(s.targets))]
        return IndependentOutputs(exprs, (*split, *body))

    def _with_first_line(self, lines: list[Stmt]) -> list[Stmt]:
        """The lines behind one that widens the first input, and keeps its dtype for them. The norm
        around a sweep has done so."""
        if self.is_sweep:
            return lines
        first = Name(self.ctx.first)
        wide = call("runtime.widened", first)
        if "dtype" not in names_in(tuple(lines)):
            return [Assign((first,), wide), *lines]
        both = Tuple((Attribute(first, "dtype"), wide), bare=True)
        return [Assign((Name("dtype"), first), both), *lines]

    def _widened(self) -> list[Stmt]:
        """Convert further inputs, and the parameters that need it, to the dtype of statistics."""
        statements: list[Stmt] = []
        for decl in self.ctx.program.inputs:
            if decl.sort == "tensor" and decl.name != self.ctx.first and not self.is_sweep:
                name = Name(decl.name)
                statements += self._own_dtype(decl.name)
                statements.append(Assign((name,), call("runtime.widened", name)))
        widened_params = params_to_widen(self.ctx.program)
        for param in self.ctx.program.params:
            statements += self._own_dtype(param.name)
            if param.name in widened_params:
                name = Name(param.name)
                statements.append(Assign((name,), call("runtime.widened", name)))
        return statements

    def _own_dtype(self, name: str) -> list[Stmt]:
        """Keep the dtype of a tensor before it is converted, if something is cast to it."""
        local = self.ctx.dtypes.get(name)
        if local is None:
            return []
        dtype: Expr = Attribute(Name(name), "dtype")
        if name in self.ctx.may_be_absent:
            missing = Binary("is", (Name(name), Literal(None)))
            dtype = IfElse(missing, Name("dtype"), dtype)
        return [Assign((Name(local),), dtype)]

    def split_inputs(self) -> list[Assign]:
        """Unflatten the inputs that have split axes."""
        statements: list[Assign] = []
        for decl in self.ctx.program.inputs:
            if decl.sort in ("tensor", "mask", "whole") or decl.table is not None:
                name = Name(decl.name)
                split = self.ctx.lengths.split(Value(name, tuple(Dim(d) for d in decl.dims)))
                if split.expr != name:
                    axes = ", ".join(self.ctx.axis_text(d.axis) for d in split.dims)
                    expr = split.expr
                    if isinstance(decl.default, float) or decl.drawn is not None:
                        missing = Binary("is", (name, Literal(None)))
                        expr = IfElse(missing, Literal(None), expr)
                    statements.append(Assign((name,), expr, axes))
        return statements

    def _result(self, body: list[Stmt]) -> Expr:
        results = [self.output(name, ref, body) for name, ref in self.ctx.program.outputs]
        if len(results) == 1:
            return self.ctx.fit_return(results[0], "y", body)
        bound = [
            self.ctx.fit_return(r, n, body) for r, (n, _) in zip(results, self.ctx.program.outputs)
        ]
        return call(self.result, *bound) if self.result else Tuple(tuple(bound))

    def output(self, name: str, ref: Ref, body: list[Stmt]) -> Expr:
        """An output in its final shape and dtype."""
        dims = output_dims(self.ctx.program, name, ref)
        axes = tuple(d.axis for d in self.ctx.layouts.full_dims(dims))
        value = self.ctx.not_none(ref)
        if value.dims == tuple(map(Dim, dims)) != tuple(map(Dim, axes)):  # what a sweep has written
            return method(value.expr, "to", self.ctx.dtype_of(name))
        if not value.number and self._is_permuted(value, axes):
            value = self.ctx.in_variable(self.ctx.layouts.compact(value), body)
        returned = self._as_returned(value, axes)
        return returned if self.is_sweep else method(returned, "to", self.ctx.dtype_of(name))

    def _is_permuted(self, value: Value, result_axes: tuple[str, ...]) -> bool:
        """Whether dimensions are permuted, which takes several mentions of the value."""
        value_axes = [d.axis for d in value.dims if d.full]
        return value_axes != [axis for axis in result_axes if axis in value_axes]

    def _as_returned(self, value: Value, result_axes: tuple[str, ...]) -> Expr:
        """A value with unsplit axes, expanded to the axes of the result."""
        dims = tuple(Dim(axis) for axis in result_axes)
        value = self.broadcaster.spread(value, result_axes)
        if dims != self.ctx.layouts.full_dims(self.ctx.program.inputs[0].dims):
            value = self.ctx.layouts.compact(value)
        expr = self.ctx.layouts.aligned(value, dims) if value.dims else value.expr
        if value.number:
            first = Name(self.ctx.first)
            return method(first, "new_full", self.ctx.lengths.shape(dims), expr)
        if {d.axis for d in value.dims if d.full} != set(result_axes) or value.may_lack_dims:
            expr = method(expr, "expand", self.ctx.lengths.shape(dims))
        return self.ctx.lengths.merged(expr, dims)

    def emit(self, let: Let, out: list[Stmt]) -> None:
        """The statements of one binding."""
        self._emit(let, out)
        if let.name in self.filled:
            self.ctx.not_none(let.name)

    def _emit(self, let: Let, out: list[Stmt]) -> None:
        match let.op:
            case Input(name):
                self.leaves.input(let, name)
            case Param(name):
                self.leaves.param(let, name)
            case Buffer(name):
                self.leaves.buffer(let, name)
            case Number(scalar):
                self.leaves.number(let, scalar)
            case Draw():
                self.leaves.draw(let, let.op, out)
            case Position(axis):
                self.leaves.position(let, axis, out)
            case Map() | Pool() if let.name in self.contractions.absorbed:
                pass
            case Map() if flag_of(let.op, self.ops, self.flags):
                self.modes.flagged(let, let.op, out)
            case Map() if let.name in self.contractions.sums:
                self.contractions.contract(let, out)
            case Map():
                self.maps.map(let, let.op, out)
            case Pool() if let.name in self.contractions.factors:
                self.contractions.contract(let, out)
            case Pool():
                self.pools.pool(let, let.op, out)
            case Count():
                self.counts.count(let, let.op, out)
            case AxisMap():
                self._axis_map(let, let.op, out)
            case Recurrence():
                self.scans.scan(let, let.op, out)
            case Lookup():
                self._lookup(let, let.op, out)
            case Piece():
                self.pieces.piece(let, let.op, out)
            case Concat():
                self.pieces.concat(let, let.op, out)
            case Rename():
                self._rename(let, let.op)
            case Expand(ref):
                self._expand(let, ref, out)
            case Detach(ref):
                self._detach(let, ref, out)
            case Cast():
                self._cast(let, let.op, out)
            case Mode():
                self.modes.modes(let, out)
            case Exchange():
                self.exchanges.exchange(let, out)
            case Near():
                self.exchanges.near(let, let.op, out)
            case FromSums():
                self.exchanges.from_sums(let, let.op, out)
            case ToSum():
                self.sweeps.to_sum(let, let.op, out)
            case Swept():
                self.sweeps.swept(let, let.op, out)
            case Repeat():
                self.loops.repeat(let, let.op, out)

    def _axis_map(self, let: Let, op: AxisMap, out: list[Stmt]) -> None:
        """A map along an axis, such as softmax."""
        value = self.ctx.in_variable(self.broadcaster.with_all_dims(op.value), out)
        index = [d.axis for d in value.dims].index(op.axis)
        dim = self.ctx.layouts.position(value.dims, index)
        if op.function == "softmax":
            expr = call("torch.softmax", value.expr, dim=dim)
        else:
            assert op.argument is not None
            radius = self.ctx.lengths.number(op.argument)
            expr = call(f"runtime.{op.function}", value.expr, radius, dim=dim)
        self.ctx.bind(let, expr, value.dims, out, "share")

    def _lookup(self, let: Let, op: Lookup, out: list[Stmt]) -> None:
        table = self.ctx.in_variable(self.broadcaster.with_all_dims(op.table), out)
        index = [d.axis for d in table.dims].index(op.axis)
        dim = self.ctx.layouts.position(table.dims, index)
        other_dims = tuple(d for i, d in enumerate(table.dims) if i != index)
        if isinstance(op.index, int):
            number = integer(op.index)
            if not isinstance(self.ctx.space[op.axis].size, Const):
                axis = Literal(self.ctx.axis_text(op.axis))
                row = call("runtime.at", table.expr, dim, number, axis)
                self.ctx.bind(let, row, other_dims, out, "item")
                return
            first = Subscript(table.expr, (number,))
            item = method(table.expr, "select", dim, number) if index else first
            self.ctx.keep(let, Value(item, other_dims), out, "item")
            return
        chooser = self.ctx.values[op.index]
        if index:
            table = Value(method(table.expr, "movedim", dim, integer(0)), table.dims)
        name = Literal(self.ctx.argument_name(op.index))
        expr = call("runtime.chosen", table.expr, chooser.expr, name)
        self.ctx.keep(let, Value(expr, (*chooser.dims, *other_dims)), out, "chosen")

    def _expand(self, let: Let, ref: Ref, out: list[Stmt]) -> None:
        dims = tuple(Dim(axis) for axis in let.type.axes)
        value = self.ctx.not_none(ref)
        if value.number:
            sizes = self.ctx.lengths.shape(dims)
            value = Value(method(Name(self.ctx.first), "new_full", sizes, value.expr), dims)
        self.ctx.keep(let, self.broadcaster.expanded(value, let.type.axes), out, "value")

    def _rename(self, let: Let, op: Rename) -> None:
        value = self.ctx.not_none(op.value)
        dims = (replace(d, axis=op.new if d.axis == op.old else d.axis) for d in value.dims)
        self.ctx.values[let.name] = replace(value, dims=tuple(dims))

    def _detach(self, let: Let, ref: Ref, out: list[Stmt]) -> None:
        value = self.ctx.not_none(ref)
        detached = value.expr if value.number else method(value.expr, "detach")
        self.ctx.keep(let, replace(value, expr=detached), out, "fixed")

    def _cast(self, let: Let, op: Cast, out: list[Stmt]) -> None:
        value = self.ctx.as_number(op.value, self.ctx.not_none(op.value))
        tensor = self.ctx.tensor(value.expr) if value.number else value.expr
        rounded = call("runtime.rounded", tensor, self.ctx.dtype(op.to))
        self.ctx.keep(let, replace(value, expr=rounded, number=False), out, "rounded")
