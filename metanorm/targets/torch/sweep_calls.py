"""Print the calls of the sweeps of a norm among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from metanorm.ir.nodes import Let, Ref, Swept, ToSum
from metanorm.ir.outputs import output_dims
from metanorm.ir.precision import values_in_own_dtype
from metanorm.passes.sweep_programs import LocalSweep
from metanorm.targets.python.pyir import Assign, Binary, Expr, Function, IfElse, Literal, Name, Stmt
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Value, call

SUMS = {"gaps": "runtime.gaps_of_moments", "squares": "runtime.squares_of_moments"}


@dataclass(frozen=True)
class PrintedSweep:
    """A sweep with its function, and the class of its results if there are several."""

    sweep: LocalSweep
    function: Function
    result: str | None
    definitions: tuple[Stmt, ...]


class SweepCalls:
    """Prints the calls of sweeps. `emit_needed` prints the values that some refs need."""

    def __init__(
        self,
        context: Context,
        broadcaster: Broadcaster,
        sweeps: Sequence[PrintedSweep],
        emit_needed: Callable[[Iterable[Ref], list[Stmt]], None],
    ) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.sweeps = sweeps
        self.emit_needed = emit_needed

    @cached_property
    def split_inputs(self) -> list[str]:
        """The inputs whose axes are split under their own names."""
        sorts = ("tensor", "mask", "whole")
        inputs = self.ctx.program.inputs
        return [decl.name for decl in inputs if decl.sort in sorts or decl.table is not None]

    @cached_property
    def values_in_own_dtype(self) -> set[Ref]:
        """The values that are not surely in the dtype of statistics, which sweeps take."""
        return values_in_own_dtype(self.ctx.program)

    def swept(self, first: Let, op: Swept, out: list[Stmt]) -> None:
        """The call of a sweep, which gives all of its results."""
        printed = self.sweeps[op.sweep - 1]
        program = printed.sweep.program
        lets = {
            let.op.output: let
            for let in self.ctx.bodies[first.name]
            if isinstance(let.op, Swept) and let.op.sweep == op.sweep
        }
        narrow = printed.sweep.narrow_inputs
        self.emit_needed(narrow.values(), out)
        tensors = {name: self._tensor(ref) for name, ref in narrow.items()}
        tensors |= {name: self._whole_input(name) for name in self.split_inputs}
        arguments = [
            tensors.get(parameter.name, Name(parameter.name))
            for parameter in printed.function.parameters
        ]
        names = {name: Name(self._name(lets[name], name)) for name, _ in program.outputs}
        called = call(printed.function.name, *arguments)
        out.append(Assign(tuple(names.values()), called))
        for name, ref in program.outputs:
            dims = tuple(map(Dim, output_dims(program, name, ref)))
            value = Value(names[name], dims)
            if not self.ctx.is_wide(lets[name].name):
                value = self._split(value, out)
            self.ctx.values[lets[name].name] = value

    def _name(self, let: Let, output: str) -> str:
        is_result = self.ctx.is_wide(let.name)
        return self.ctx.name_of(let.name, "y") if is_result else self.ctx.local(output)

    def _tensor(self, ref: Ref) -> Expr:
        """A narrow value as a tensor of its own axes, in the dtype of statistics."""
        value = self.ctx.as_number(ref, self.ctx.not_none(ref))
        if value.number:
            return self.ctx.tensor(value.expr)
        axes = self.ctx.lets[ref].type.axes
        dims = tuple(map(Dim, axes))
        tensor = self.ctx.layouts.aligned(self.broadcaster.expanded(value, axes), dims)
        tensor = self.ctx.lengths.merged(tensor, dims)
        return call("runtime.widened", tensor) if ref in self.values_in_own_dtype else tensor

    def _whole_input(self, name: str) -> Expr:
        """An input as a sweep takes it, with axes that are split here in one piece."""
        expr: Expr = Name(name)
        decl = self.ctx.program.index.inputs[name]
        merged = self.ctx.lengths.merged(expr, self.ctx.layouts.full_dims(decl.dims))
        if merged == expr or not isinstance(decl.default, float):
            return merged
        return IfElse(Binary("is", (expr, Literal(None))), Literal(None), merged)

    def _split(self, value: Value, out: list[Stmt]) -> Value:
        """A statistic with its axes split as they are here."""
        split = self.ctx.lengths.split(value)
        if split.expr == value.expr:
            return value
        assert isinstance(value.expr, Name)
        out.append(Assign((value.expr,), split.expr))
        return replace(split, expr=value.expr)

    def to_sum(self, let: Let, op: ToSum, out: list[Stmt]) -> None:
        """A partial sum, from the moments of this process."""
        read = op.parts if op.near is None else (*op.parts, op.near)
        self.emit_needed(read, out)
        values = [self.ctx.not_none(ref) for ref in op.parts]
        near_value = None if op.near is None else self.ctx.not_none(op.near)
        parts, near, dims = self.broadcaster.broadcast_sums(values, near_value, let.type.axes)
        expr = call(SUMS[op.statistic], *parts, near=near)
        self.ctx.bind(let, expr, dims, out, "x_total" if op.statistic == "gaps" else "x_squares")
