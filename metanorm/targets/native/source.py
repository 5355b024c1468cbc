"""A norm as C: a kernel forward and one backward, for each way its modes go and each layout.

All of them are sections of one text, of which a build defines one: what is not used is never
compiled. What has no kernel, and why, is told by `NoKernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.aggregation import Causal, Matrix, Neighbours, Window
from metanorm.ir.flags import choosing_flags
from metanorm.ir.nodes import Count, Pool, Program
from metanorm.passes.backward import NotDerivable
from metanorm.passes.columns import columns
from metanorm.passes.directions import Directions, directions
from metanorm.plan.sweeps import NotPlannable, Plan, plan
from metanorm.targets.native.cir import Section
from metanorm.targets.native.frame import Loops
from metanorm.targets.native.interface import Field, divisible, fields
from metanorm.targets.native.kernel import KernelPrinter

LARGEST = 250  # values of a program
MOST_FLAGS = 3

# Pools that overlap, while sweeps add every element to one cell of each statistic.
OVERLAPPING: dict[type[Matrix], str] = {
    Window: "windows, which overlap",
    Causal: "pools of the past, which overlap",
    Neighbours: "neighbours in a graph, whose pools overlap",
}


class NoKernels(Exception):
    """The norm runs on the torch target alone; the message says why."""


@dataclass(frozen=True)
class Kernel:
    """One entry: the section of the text, and what a call has to bring."""

    section: str
    fields: tuple[Field, ...]
    measured: tuple[tuple[str, ...], ...]  # the cells of statistics, axes that are not split


@dataclass(frozen=True)
class Arm:
    """Kernels of one way through the modes: for each vector axis, forward and backward."""

    name: str
    forward: dict[str, Kernel]
    backward: dict[str, Kernel]


@dataclass(frozen=True)
class Source:
    """The kernels of a norm: sections of C, and the table of them."""

    sections: tuple[Section, ...]
    arms: tuple[Arm, ...]
    divisible: tuple[tuple[str, tuple[str | int, ...]], ...]  # what divides lengths


@dataclass(frozen=True)
class Layout:
    """An order of dimensions in memory, called after the axis along which rows lie.

    That is all of the last dimension where it is `merged`, else the last part of it.
    """

    dims: tuple[str, ...]
    vector: str
    merged: bool = False


def layouts(program: Program) -> tuple[Layout, ...]:
    """As declared, and with the second dimension last: `channels_last` and its relatives.

    Where nothing lies between, the parts of that dimension need not be one: the groups of a
    matrix `[N, C]` are rows of their own.
    """
    dims = program.inputs[0].dims
    found = [Layout(dims, dims[-1])]
    if len(dims) > 2:
        last = (dims[0], *dims[2:], dims[1])
        found.append(Layout(last, dims[1], merged=True))
        leaves = program.index.space.leaves(dims[1])
        if len(leaves) > 1:
            found.append(Layout(last, leaves[-1]))
    return tuple(found)


def demand_rows(program: Program) -> None:
    """Raise `NoKernels` for a program that no target prints sweeps over rows for."""
    if len(program.body) > LARGEST:
        raise NoKernels(f"more than {LARGEST} values, which a compiler would take long for")
    if len(choosing_flags(program)) > MOST_FLAGS:
        raise NoKernels("many flags, each of which doubles the number of kernels")
    if not program.inputs[0].dims:
        raise NoKernels("an input without dimensions, which has no rows")
    for let in program.body:
        if isinstance(let.op, (Pool, Count)):
            for _, matrix in let.op.over:
                if type(matrix) in OVERLAPPING:
                    raise NoKernels(OVERLAPPING[type(matrix)])
    if any(i.sort == "edges" for i in program.inputs):
        raise NoKernels("an input of edges")


def source(program: Program, function: str) -> Source:
    """The kernels of an optimised program, whose function has this name. Raises `NoKernels`."""
    demand_rows(program)
    try:
        made = [_arm(function, both) for both in directions(program)]
        parts = tuple(divisible(program))
    except (NotPlannable, NotDerivable) as error:
        raise NoKernels(str(error)) from error
    sections = tuple(section for _, own in made for section in own)
    return Source(sections, tuple(arm for arm, _ in made), parts)


def _arm(function: str, arm: Directions) -> tuple[Arm, list[Section]]:
    sections: list[Section] = []
    kernels: dict[str, dict[str, Kernel]] = {"forward": {}, "backward": {}}
    both = {"forward": arm.forward, "backward": arm.backward}
    name = f"{function}_{arm.arm}"
    for layout in layouts(arm.forward):
        for way, body in both.items():
            made = _kernel(body, layout, arm.kept, name, way)
            if made is None:
                kernels["forward"].pop(layout.vector, None)
                break
            kernel, section = made
            kernels[way][layout.vector] = kernel
            sections.append(section)
    sections = [s for s in sections if _is_listed(s, kernels)]
    return Arm(arm.arm, kernels["forward"], kernels["backward"]), sections


def _is_listed(section: Section, kernels: dict[str, dict[str, Kernel]]) -> bool:
    return any(k.section == section.name for way in kernels.values() for k in way.values())


def _kernel(
    body: Program,
    layout: Layout,
    saved: tuple[str, ...],
    name: str,
    way: str,
) -> tuple[Kernel, Section] | None:
    space = body.index.space
    axes: list[tuple[str, ...]] = []
    for dim in layout.dims:
        leaves = space.leaves(dim)
        if dim == layout.dims[-1] and len(leaves) > 1 and layout.merged:
            regrouped = columns(body, leaves)
            if regrouped is None:
                return None
            body = regrouped
            axes.append(leaves)
        else:
            axes += [(leaf,) for leaf in leaves]
    planned: Plan = plan(body)
    loops: list[tuple[str, ...]] = []
    for group in axes:
        if group == (planned.grouped,):
            cell = next(
                a.name for a in body.axes if a.cells_of and a.cells_of[0] == planned.grouped
            )
            loops.append((cell,))
        loops.append(group)
    section = f"{name}_{way}_along_".upper() + layout.vector.replace(".", "_")
    own = fields(planned, saved)
    printer = KernelPrinter(planned, Loops(tuple(loops)), own, saved, way)
    space = body.index.space
    reductions = (r for sweep in planned.sweeps for r in sweep.reductions)
    cells = tuple(dict.fromkeys(space.merged(r.cells) for r in reductions))
    return Kernel(section, own, cells), Section(section, tuple(printer.definitions()))
