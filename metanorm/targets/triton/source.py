"""The Triton kernels of a norm: the steps that a call launches, and the functions of all steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from metanorm.ir.nodes import Buffer, Input, Param, Ref
from metanorm.nest.kernels import NormKernels
from metanorm.nest.nest import Nest
from metanorm.targets.python.pyir import Function
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.numbers import numbers_function
from metanorm.targets.triton.phase_kernels import in_one_program
from metanorm.targets.triton.schedule import in_islands, sweep_by_sweep
from metanorm.targets.triton.steps import Step, TileStep


@dataclass(frozen=True)
class Schedules:
    """The steps of one nest in two schedules: sweep by sweep, and for islands that fit a tile.

    `results` says which arrays are outputs, `kept` which ones the backward pass needs.
    """

    nest: Nest
    sweeps: tuple[Step, ...]
    islands: tuple[Step, ...]
    results: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]
    shapes: tuple[tuple[str, tuple[str, ...]], ...]  # of the arrays for the backward pass
    numbers: str  # the function that computes lengths and numbers
    groups: tuple[str, ...]  # the index, the axis that it groups, and the axis of groups

    def table(self) -> dict[str, Any]:
        """The table that the runtime reads."""
        table: dict[str, Any] = {
            "sweeps": [step.table() for step in self.sweeps],
            "islands": [step.table() for step in self.islands],
            "results": dict(self.results),
            "kept": dict(self.kept),
            "shapes": {name: list(sizes) for name, sizes in self.shapes},
            "way": self.nest.direction,
            "groups": list(self.groups),
            "numbers": self.numbers,
        }
        return table


@dataclass(frozen=True)
class KernelSource:
    """The functions of all steps of a norm, and the schedules of its nests, by kernel name."""

    functions: tuple[Function, ...]
    schedules: dict[str, Schedules]


def kernel_source(kernels: NormKernels, function: str) -> KernelSource:
    """The kernels of the norm whose function is called `function`."""
    printer = _SourcePrinter(function)
    order = (k for v in kernels.variants for d in (v.forward, v.backward) for k in d.values())
    schedules_by_nest = {id(nest): printer.schedules(nest) for nest in kernels}
    schedules = {kernel_name(function, nest): schedules_by_nest[id(nest)] for nest in order}
    return KernelSource(tuple(printer.functions.values()), schedules)


def kernel_name(function: str, nest: Nest) -> str:
    """The name of a nest's kernels, which is the prefix of the names of their functions."""
    name = f"{function}_{nest.variant}_{nest.direction}"
    vector = nest.layout.vector_axis
    if vector != nest.program.inputs[0].dims[-1]:
        name += f"_along_{vector.lower().replace('.', '_')}"
    return name


def _array_key(context: KernelContext, ref: Ref) -> str:
    """The key of the array that has a narrow value: a tensor of the call, or a stored value."""
    op = context.lets[ref].op
    return f"tensor {op.name}" if isinstance(op, (Input, Param, Buffer)) else f"value {ref}"


class _SourcePrinter:
    def __init__(self, function: str) -> None:
        self.function = function
        self.functions: dict[Function, Function] = {}  # by function without a name

    def schedules(self, nest: Nest) -> Schedules:
        """The schedules of a nest."""
        context, body, name = KernelContext(nest), nest.program, kernel_name(self.function, nest)
        sweeps = sweep_by_sweep(context, name)
        islands = in_islands(context, name)
        forward = nest.direction == "forward"
        inputs = {let.op.name: let.name for let in body.body if isinstance(let.op, Input)}
        saved = dict(body.outputs) if forward else inputs
        shapes = tuple(
            (n, tuple(f"size {axis}" for axis in context.axis_order(saved[n]))) for n in nest.kept
        )
        grouping = (nest.group_index, nest.grouped_axis, context.group_axis)
        arrays = {
            output: _array_key(context, ref)
            for output, ref in body.outputs
            if not context.is_wide(ref)
        }
        saving = nest.kept if forward else ()
        return Schedules(
            nest,
            tuple(self._deduplicated_step(step) for step in sweeps),
            tuple(self._deduplicated_step(step) for step in islands),
            tuple((f"to.{o}", key) for o, key in arrays.items() if o not in saving),
            tuple((o, arrays[o] if forward else f"tensor {o}") for o in nest.kept),
            shapes,
            self._deduplicated(numbers_function(name, body)).name,
            tuple(x for x in grouping if x is not None),
        )

    def _deduplicated_step(self, step: Step) -> Step:
        """A step in which equal kernels are one function."""
        if isinstance(step, TileStep):
            return replace(step, kernel=self._deduplicated(step.kernel))
        phases = tuple(replace(p, kernel=self._deduplicated(p.kernel)) for p in step.phases)
        if step.kernel is None:
            return replace(step, phases=phases)
        combined = in_one_program(step.kernel.name, step.kernel.doc[0], phases)
        assert combined.kernel is not None
        return replace(combined, kernel=self._deduplicated(combined.kernel))

    def _deduplicated(self, function: Function) -> Function:
        """The first function that is equal to this one but for its name."""
        anonymous = replace(function, name="", doc=())
        if anonymous not in self.functions:
            assert all(function.name != other.name for other in self.functions.values())
            self.functions[anonymous] = function
        return self.functions[anonymous]
