"""The program of one sweep of a norm among processes: what `local_sweeps` finds, as a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.division import parts_of
from metanorm.ir.dump import operation_name
from metanorm.ir.index import closure
from metanorm.ir.nodes import (
    Detach,
    Expand,
    Input,
    Let,
    Map,
    Number,
    Param,
    Pool,
    Position,
    Ref,
    Swept,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.outputs import FLOAT64
from metanorm.ir.program import Declaration, InputDecl, Program
from metanorm.ir.rename import map_operands, numbered, role_of
from metanorm.ir.roles import roles
from metanorm.ir.scalar import SizeOf, hyperparameters_in, leaves
from metanorm.passes.builder import without_dead_code

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


class DividedNorm:
    """The program of a norm whose axes are divided, as all of its sweeps read it."""

    def __init__(self, program: Program) -> None:
        self.program, self.index = program, program.index
        self.roles, self.parts = roles(program), parts_of(program)
        first = program.inputs[0]
        self.data_axes = {leaf for dim in first.dims for leaf in self.index.space.leaves(dim)}
        self.names = {decl.name for decl in program.declarations}
        self.names |= {argument.name for argument in program.arguments} | {"dtype"}
        self.names |= {let.name for let in program.body if not let.name.startswith("%")}

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value is as large as the data."""
        types = self.index.types
        return ref in types and self.data_axes <= set(types[ref].axes)


class SweepBuilder:
    """Builds a sweep: the value of each output, and the input for each narrow value."""

    def __init__(self, norm: DividedNorm, number: int) -> None:
        self.norm, self.number = norm, number
        self.lets: dict[Ref, Let] = {}  # by value of the norm, as the sweep has it
        self.outputs: dict[str, Ref] = {}
        self.input_names: dict[Ref, str] = {}
        self.exact: set[str] = set()

    def output_name(self, op: Pool, statistic: str) -> str:
        """A new name for a statistic, such as `x_mean`."""
        stem = "" if op.value.startswith("%") else f"{op.value}_"
        words = {"gaps": "total"}
        name = stem + words.get(statistic, statistic.removeprefix("exact_"))
        return _free(name, {*self.outputs, *self.norm.names})

    def measure(self, name: str, let: Let, op: Pool, exact: bool) -> None:
        """Add a statistic as an output; with `exact` it is handed out in float64."""
        self.take_in(operands(op))
        self.outputs[name] = let.name
        self.lets[let.name] = replace(let, op=op)
        if exact:
            self.exact.add(name)

    def take_in(self, roots: Sequence[Ref]) -> None:
        """Copy the wide values that these depend on; narrow ones become inputs of the sweep."""
        needed = closure(roots, self._read_by_wide)
        for let in self.norm.program.body:
            if let.name not in needed or let.name in self.lets:
                continue
            if self.norm.is_wide(let.name):
                if not isinstance(let.op, WIDE_OPS):
                    raise NotInSweeps(f"a {operation_name(let.op)} as large as the input")
                self.lets[let.name] = let
            elif isinstance(let.op, COMPUTED_AGAIN):
                self.lets[let.name] = let
            else:
                type_ = Type("real", let.type.axes)
                self.lets[let.name] = replace(let, op=self._input(let), type=type_)

    def swept(self, name: str, let: Let) -> Swept:
        """What stands for a value in the program of the norm: a result of the sweep."""
        values = tuple(self._narrow_operands(operands(let.op)))
        part = self.norm.parts[let.name]
        return Swept(
            self.number, name, values, let.type.axes, tuple(sorted(part.axes)), part.joined
        )

    def finished(self, writes: bool) -> LocalSweep:
        """The sweep with its program."""
        program, index = self.norm.program, self.norm.index
        read = {let.op for let in self.lets.values()}
        inputs = [
            decl for decl in program.inputs if decl is program.inputs[0] or Input(decl.name) in read
        ]
        inputs += [
            InputDecl(name, "tensor", index.space.unsplit(index.types[ref].axes))
            for ref, name in self.input_names.items()
        ]
        names = self.input_names
        body = tuple(
            replace(let, name=names.get(let.name, let.name), op=map_operands(let.op, names))
            for let in self.lets.values()
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
            name=f"{program.name}, {'results' if writes else f'statistics {self.number}'}",
            target="sweep",
            doc=(),
            inputs=tuple(inputs),
            params=params,
            buffers=(),
            body=body,
            outputs=tuple(self.outputs.items()),
            updates=(),
            checks=(),
            output_dims=tuple(
                (name, dims) for name, dims in program.output_dims if name in self.outputs
            ),
            output_dtypes=tuple((name, FLOAT64) for name in sorted(self.exact)),
            divided=(),
            entries=(),
        )
        if any(decl.sort in ("index", "edges", "matrix") for decl in inputs):
            raise NotInSweeps("an index of positions")
        values = {name: ref for ref, name in self.input_names.items()}
        return LocalSweep(numbered(without_dead_code(swept)), values, writes)

    def _input(self, let: Let) -> Input:
        """The input that gives the sweep a narrow value; a condition as zeros and ones."""
        norm, space = self.norm, self.norm.index.space
        if let.type.kind == "int":
            raise NotInSweeps("whole numbers that are computed")
        if any(space[axis].cells_of for axis in let.type.axes):
            raise NotInSweeps("values of groups of positions")
        role = role_of(let.name) or norm.roles.get(let.name, "value")
        name = role if let.name.startswith("%") else let.name
        used = {*self.input_names.values(), *norm.names} - {let.name}
        self.input_names[let.name] = _free(name, used)
        return Input(self.input_names[let.name])

    def _read_by_wide(self, ref: Ref) -> tuple[Ref, ...]:
        return operands(self.norm.index.ops[ref]) if self.norm.is_wide(ref) else ()

    def _narrow_operands(self, roots: Sequence[Ref]) -> Iterator[Ref]:
        """The narrow values of the norm that the sweep computes these values of."""
        needed = closure(roots, self._read_by_wide)
        return (ref for ref in self.input_names if ref in needed)


def _free(name: str, used: set[str]) -> str:
    """The name, or with a number behind it where it is used."""
    candidate, number = name, 2
    while candidate in used:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
