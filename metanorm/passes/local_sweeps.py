"""The sweeps of a norm among processes: one pass over the data each, without a message in it.

What is as large as the data is computed in sweeps, each of which is a program of its own, with a
function and kernels. What lies between them, messages included, is narrow and stays in the program
of the norm. So kernels change nothing about messages, and a process that has none for a call sends
the same.

A sweep hands out local statistics in float64. Sums of powers would cancel in kernels that compute
in float32, and so would their gradients. So a sweep measures means and variances, and the sums that
are sent follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.division import parts_of
from metanorm.ir.dump import operation_name
from metanorm.ir.index import closure
from metanorm.ir.mode_placement import ModeBranch, mode_placement
from metanorm.ir.nodes import (
    Count,
    Detach,
    Expand,
    Input,
    Let,
    Map,
    Near,
    Number,
    Param,
    Pool,
    Position,
    Ref,
    Swept,
    ToSum,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.outputs import FLOAT64
from metanorm.ir.program import Declaration, InputDecl, Program
from metanorm.ir.rename import map_operands, numbered, role_of
from metanorm.ir.roles import roles
from metanorm.ir.scalar import SizeOf, hyperparameters_in, leaves
from metanorm.passes.builder import without_dead_code

EXACT = {"gaps": "exact_mean", "squares": "exact_var"}  # what sums about a number follow from
IN_FLOAT64 = (*EXACT, "ties")  # statistics that a sweep has in float64
WIDE_OPS = (Input, Map, Expand, Detach)
COMPUTED_AGAIN = (Number, Position, Param, Input)  # narrow, and computed in each sweep


class NotInSweeps(Exception):
    """A norm whose work on the data cannot be told from its messages; the message says why."""


@dataclass(frozen=True)
class LocalSweep:
    """One pass over the data.

    `narrow_inputs` has, for each input that stands for a narrow value of the norm, this value.
    """

    program: Program
    narrow_inputs: Mapping[str, Ref]
    writes: bool  # wide outputs, after all statistics


@dataclass(frozen=True)
class LocalSweeps:
    """The program of a norm between sweeps, and its sweeps."""

    program: Program
    sweeps: tuple[LocalSweep, ...]


def local_sweeps(program: Program) -> LocalSweeps:
    """The sweeps of a program for divided axes. Raises `NotInSweeps`."""
    return _LocalSweeps(program).run()


@dataclass
class _Sweep:
    """A sweep that grows: the value of each output, and the input for each narrow value."""

    lets: dict[Ref, Let] = field(default_factory=dict)  # by value of the norm, as the sweep has it
    outputs: dict[str, Ref] = field(default_factory=dict)
    input_names: dict[Ref, str] = field(default_factory=dict)
    exact: set[str] = field(default_factory=set)


class _LocalSweeps:
    def __init__(self, program: Program) -> None:
        self.program, self.index = program, program.index
        self.roles = roles(program)
        first = program.inputs[0]
        self.data_axes = {leaf for dim in first.dims for leaf in self.index.space.leaves(dim)}
        self.placement = mode_placement(program)
        self.parts = parts_of(program)
        self.depth: dict[Ref, int] = {}
        self.replaced: dict[Ref, list[Let]] = {}  # a binding of the norm to those in its place
        self.names = {decl.name for decl in program.declarations}
        self.names |= {argument.name for argument in program.arguments} | {"dtype"}
        self.names |= {let.name for let in program.body if not let.name.startswith("%")}

    def run(self) -> LocalSweeps:
        """Number the sweeps by depth: the depth of a value is how many of them it waits for."""
        for let in self.program.body:
            depth = max((self.depth[ref] for ref in operands(let.op)), default=0)
            self.depth[let.name] = depth + self._is_measured(let)
        sweeps = [self._statistics(n, lets) for n, lets in enumerate(self._measured(), 1)]
        written = {
            name: ref
            for name, ref in self.program.outputs
            if self._is_wide(ref) and not isinstance(self.index.ops[ref], Input)
        }
        if written:
            sweeps.append(self._results(len(sweeps) + 1, written))
        body = [new for let in self.program.body for new in self.replaced.get(let.name, [let])]
        between = without_dead_code(replace(self.program, body=tuple(body)))
        for let in between.body:
            is_swept = isinstance(let.op, (Swept, Input))
            if self._is_wide(let.name) and not is_swept:
                raise NotInSweeps(f"a {operation_name(let.op)} of all data between sweeps")
        if not sweeps:
            raise NotInSweeps("nothing that is as large as the input")
        return LocalSweeps(between, tuple(sweeps))

    def _is_wide(self, ref: Ref) -> bool:
        types = self.index.types
        return ref in types and self.data_axes <= set(types[ref].axes)

    def _is_measured(self, let: Let) -> bool:
        """Whether a value is a statistic of the data."""
        is_pool = isinstance(let.op, Pool) and self._is_wide(let.op.value)
        return is_pool and not self._is_wide(let.name)

    def _measured(self) -> list[list[Let]]:
        """The statistics of each sweep: those that wait for as many, and are needed together."""
        groups: dict[tuple[int, ModeBranch | None], list[Let]] = {}
        for let in self.program.body:
            if self._is_measured(let):
                key = (self.depth[let.name], self.placement[let.name])
                groups.setdefault(key, []).append(let)
        return [groups[key] for key in sorted(groups, key=lambda key: key[0])]

    # ---- the two kinds of sweeps

    def _statistics(self, number: int, lets: Sequence[Let]) -> LocalSweep:
        """A sweep that measures the data, and what it measures in the program of the norm."""
        sweep = _Sweep()
        for let in lets:
            op = let.op
            assert isinstance(op, Pool)
            if any(grouping != Ones() for _, grouping in op.over):
                raise NotInSweeps("pools of groups of positions")
            if op.weight is not None:
                raise NotInSweeps("weights, whose gradient moments of no weight at all do not have")
            is_about_mean = op.about is not None and isinstance(self.index.ops[op.about], Near)
            if op.statistic in EXACT and (is_about_mean or self._partner(op, lets)):
                self._from_moments(number, let, op, sweep)
                continue
            name = self._output(op, op.statistic, sweep)
            self._measure(sweep, name, let, op, exact=op.statistic in IN_FLOAT64)
            self.replaced[let.name] = [replace(let, op=self._swept(number, name, let, sweep))]
        return self._finished(number, sweep, writes=False)

    def _partner(self, op: Pool, lets: Sequence[Let]) -> bool:
        """Whether the sums of both powers are measured, about the same number."""
        wanted = {replace(op, statistic=statistic) for statistic in EXACT}
        return wanted <= {let.op for let in lets}

    def _from_moments(self, number: int, let: Let, op: Pool, sweep: _Sweep) -> None:
        """A sum about a number, from the moments of the same elements."""
        count = Count(op.over, op.where, op.weight)
        counts = [other.name for other in self.program.body if other.op == count]
        if not counts:
            raise NotInSweeps("a sum about a number whose elements are not counted")
        wanted = ["exact_mean"] if op.statistic == "gaps" else [*EXACT.values()]
        moments = [self._moment(number, let, op, name, sweep) for name in wanted]
        bindings = [new for _, news in moments for new in news]
        parts = (counts[0], *(ref for ref, _ in moments))
        to_sum = ToSum("gaps" if op.statistic == "gaps" else "squares", parts, op.about)
        self.replaced[let.name] = [*bindings, replace(let, op=to_sum)]

    def _moment(
        self, number: int, let: Let, op: Pool, statistic: str, sweep: _Sweep
    ) -> tuple[Ref, list[Let]]:
        """A moment of the elements of a sum, and its binding unless it has one already."""
        moment = replace(op, statistic=statistic, about=None)
        for ref in sweep.outputs.values():
            if sweep.lets[ref].op == moment:
                return ref, []
        name = self._output(op, statistic, sweep)
        bound = replace(let, name=f"%{name}.sweep{number}")
        self._measure(sweep, name, bound, moment, exact=True)
        return bound.name, [replace(bound, op=self._swept(number, name, let, sweep))]

    def _results(self, number: int, written: Mapping[str, Ref]) -> LocalSweep:
        """The sweep that writes what is as large as the data."""
        sweep = _Sweep()
        for name, ref in written.items():
            let = self.index.lets[ref]
            self._take_in(sweep, [ref])
            if ref not in sweep.outputs.values():
                sweep.outputs[name] = ref
                self.replaced[ref] = [replace(let, op=self._swept(number, name, let, sweep))]
        return self._finished(number, sweep, writes=True)

    # ---- the program of a sweep

    def _output(self, op: Pool, statistic: str, sweep: _Sweep) -> str:
        """A new name for a statistic, such as `x_mean`."""
        stem = "" if op.value.startswith("%") else f"{op.value}_"
        words = {"gaps": "total"}
        name = stem + words.get(statistic, statistic.removeprefix("exact_"))
        return self._free(name, {*sweep.outputs, *self.names})

    def _measure(self, sweep: _Sweep, name: str, let: Let, op: Pool, exact: bool) -> None:
        self._take_in(sweep, operands(op))
        sweep.outputs[name] = let.name
        sweep.lets[let.name] = replace(let, op=op)
        if exact:
            sweep.exact.add(name)

    def _take_in(self, sweep: _Sweep, roots: Sequence[Ref]) -> None:
        """Copy the wide values that these depend on; narrow ones become inputs of the sweep."""
        needed = closure(roots, self._read_by_wide)
        for let in self.program.body:
            if let.name not in needed or let.name in sweep.lets:
                continue
            if self._is_wide(let.name):
                if not isinstance(let.op, WIDE_OPS):
                    raise NotInSweeps(f"a {operation_name(let.op)} as large as the input")
                sweep.lets[let.name] = let
            elif isinstance(let.op, COMPUTED_AGAIN):
                sweep.lets[let.name] = let
            else:
                type_ = Type("real", let.type.axes)
                sweep.lets[let.name] = replace(let, op=self._input(sweep, let), type=type_)

    def _read_by_wide(self, ref: Ref) -> tuple[Ref, ...]:
        return operands(self.index.ops[ref]) if self._is_wide(ref) else ()

    def _input(self, sweep: _Sweep, let: Let) -> Input:
        """The input that gives a sweep a narrow value; a condition as zeros and ones."""
        space = self.index.space
        if let.type.kind == "int":
            raise NotInSweeps("whole numbers that are computed")
        if any(space[axis].cells_of for axis in let.type.axes):
            raise NotInSweeps("values of groups of positions")
        role = role_of(let.name) or self.roles.get(let.name, "value")
        name = role if let.name.startswith("%") else let.name
        used = {*sweep.input_names.values(), *self.names} - {let.name}
        sweep.input_names[let.name] = self._free(name, used)
        return Input(sweep.input_names[let.name])

    def _narrow_operands(self, sweep: _Sweep, roots: Sequence[Ref]) -> Iterator[Ref]:
        """The narrow values of the norm that a sweep computes these values of."""
        needed = closure(roots, self._read_by_wide)
        return (ref for ref in sweep.input_names if ref in needed)

    def _swept(self, number: int, name: str, let: Let, sweep: _Sweep) -> Swept:
        """What stands for a value in the program of the norm: a result of the sweep."""
        values = tuple(self._narrow_operands(sweep, operands(let.op)))
        part = self.parts[let.name]
        return Swept(number, name, values, let.type.axes, tuple(sorted(part.axes)), part.joined)

    def _free(self, name: str, used: set[str]) -> str:
        candidate, number = name, 2
        while candidate in used:
            candidate, number = f"{name}_{number}", number + 1
        return candidate

    def _finished(self, number: int, sweep: _Sweep, writes: bool) -> LocalSweep:
        program, space = self.program, self.index.space
        read = {let.op for let in sweep.lets.values()}
        inputs = [
            decl for decl in program.inputs if decl is program.inputs[0] or Input(decl.name) in read
        ]
        inputs += [
            InputDecl(name, "tensor", space.unsplit(self.index.types[ref].axes))
            for ref, name in sweep.input_names.items()
        ]
        names = sweep.input_names
        body = tuple(
            replace(let, name=names.get(let.name, let.name), op=map_operands(let.op, names))
            for let in sweep.lets.values()
        )
        params = tuple(p for p in program.params if Param(p.name) in read)
        declarations: list[Declaration] = [*inputs, *params]
        used = {axis for decl in declarations for axis in decl.dims}
        used |= {axis for let in body for axis in let.type.axes}
        numbers = tuple(let.op for let in body if isinstance(let.op, Number))
        scalars = (leaf for number in numbers for leaf in leaves(number.value))
        used |= {leaf.axis for leaf in scalars if isinstance(leaf, SizeOf)}
        used |= {part for axis in program.axes if used & {axis.name, *axis.parts}
                 for part in (axis.name, *axis.parts)}  # fmt: skip
        hyperparameters = set(hyperparameters_in(numbers))
        swept = replace(
            program,
            axes=tuple(axis for axis in program.axes if axis.name in used),
            arguments=tuple(
                a
                for a in program.arguments
                if not a.axes or used & {*a.axes} or a.name in hyperparameters
            ),
            name=f"{program.name}, {'results' if writes else f'statistics {number}'}",
            target="sweep",
            doc=(),
            inputs=tuple(inputs),
            params=params,
            buffers=(),
            body=body,
            outputs=tuple(sweep.outputs.items()),
            updates=(),
            checks=(),
            output_dims=tuple(
                (name, dims) for name, dims in program.output_dims if name in sweep.outputs
            ),
            output_dtypes=tuple((name, FLOAT64) for name in sorted(sweep.exact)),
            divided=(),
            entries=(),
        )
        if any(decl.sort in ("index", "edges", "matrix") for decl in inputs):
            raise NotInSweeps("an index of positions")
        values = {name: ref for ref, name in sweep.input_names.items()}
        return LocalSweep(numbered(without_dead_code(swept)), values, writes)
