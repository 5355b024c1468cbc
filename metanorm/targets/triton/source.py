"""A norm as Triton kernels: both directions, for each way its modes go and each layout.

What has no kernel, and why, is told by `NoKernels`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from metanorm.ir.nodes import Input, Program
from metanorm.passes.backward import NotDerivable
from metanorm.passes.columns import columns
from metanorm.passes.directions import Directions, directions
from metanorm.plan.sweeps import NotPlannable, plan
from metanorm.targets.native.interface import Field, divisible, fields
from metanorm.targets.native.source import Layout, NoKernels, demand_rows, layouts
from metanorm.targets.python.pyir import Function
from metanorm.targets.triton.frame import Frame
from metanorm.targets.triton.numbers import numbers
from metanorm.targets.triton.schedule import in_islands, sweep_by_sweep
from metanorm.targets.triton.settle import in_one_program
from metanorm.targets.triton.steps import Step, TileStep


@dataclass(frozen=True)
class Ways:
    """The steps for one layout, sweep by sweep and for islands that fit a tile; `results` says
    which arrays are outputs, `kept` which are for the way back."""

    section: str
    fields: tuple[Field, ...]
    measured: tuple[tuple[str, ...], ...]
    sweeps: tuple[Step, ...]
    islands: tuple[Step, ...]
    walked: tuple[Step, ...]
    results: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]
    shapes: tuple[tuple[str, tuple[str, ...]], ...]  # of what is kept
    way: str
    numbers: str  # the function that computes lengths and numbers
    groups: tuple[str, ...]  # an index, the axis that it groups, and that of groups

    def table(self) -> dict[str, Any]:
        """What the runtime has to know."""
        table: dict[str, Any] = {
            "sweeps": [step.table() for step in self.sweeps],
            "islands": [step.table() for step in self.islands],
            "walked": [step.table() for step in self.walked],
            "results": dict(self.results),
            "kept": dict(self.kept),
            "shapes": {name: list(sizes) for name, sizes in self.shapes},
            "way": self.way,
            "groups": list(self.groups),
            "numbers": self.numbers,
        }
        return table


@dataclass(frozen=True)
class Arm:
    """Both directions of one way through the modes, for each axis along which memory runs."""

    name: str
    forward: dict[str, Ways]
    backward: dict[str, Ways]


@dataclass(frozen=True)
class Source:
    """The kernels of a norm, and what there is to know about them."""

    functions: tuple[Function, ...]
    arms: tuple[Arm, ...]
    divisible: tuple[tuple[str, tuple[str | int, ...]], ...]


def source(program: Program, function: str) -> Source:
    """The kernels of an optimised program, whose function has this name. Raises `NoKernels`."""
    demand_rows(program)
    made = _Source(function)
    try:
        found = list(directions(program))
        arms = tuple(made.arm(both) for both in found)
        parts = tuple(divisible(program))
    except (NotPlannable, NotDerivable) as error:
        raise NoKernels(str(error)) from error
    return Source(tuple(made.functions.values()), arms, parts)


class _Source:
    def __init__(self, function: str) -> None:
        self.function = function
        self.functions: dict[Function, Function] = {}  # by what they do, whatever they are called

    def arm(self, arm: Directions) -> Arm:
        """All layouts that both directions can be read in."""
        forward: dict[str, Ways] = {}
        backward: dict[str, Ways] = {}
        for layout in layouts(arm.forward):
            pair = [
                self._ways(body, layout, arm, way)
                for way, body in (("forward", arm.forward), ("backward", arm.backward))
            ]
            first, second = pair
            if first is not None and second is not None:
                forward[layout.vector], backward[layout.vector] = first, second
        return Arm(arm.arm, forward, backward)

    def _ways(self, body: Program, layout: Layout, arm: Directions, way: str) -> Ways | None:
        space = body.index.space
        groups: list[tuple[str, ...]] = []
        for dim in layout.dims:
            leaves = space.leaves(dim)
            if dim == layout.dims[-1] and len(leaves) > 1 and layout.merged:
                regrouped = columns(body, leaves)
                if regrouped is None:
                    return None
                body = regrouped
                groups.append(leaves)
            else:
                groups += [(leaf,) for leaf in leaves]
        planned = plan(body)
        frame = Frame(planned, groups)
        name = f"{self.function}_{arm.arm}_{way}"
        if layout.vector != body.inputs[0].dims[-1]:
            name += f"_along_{layout.vector.lower().replace('.', '_')}"
        sweeps = sweep_by_sweep(frame, name)
        islands = in_islands(frame, name, walk=False) or []
        walked = in_islands(frame, name, walk=True) or []
        kept = arm.kept if way == "forward" else ()
        inputs = {let.op.name: let.name for let in body.body if isinstance(let.op, Input)}
        saved = dict(body.outputs) if way == "forward" else inputs
        shapes = tuple(
            (n, tuple(f"size {axis}" for axis in frame.order(saved[n]))) for n in arm.kept
        )
        grouping = (planned.groups, planned.grouped, frame.cell)
        arrays = {
            output: f"tensor {frame.lets[ref].op.name}" if frame.given(ref) else f"value {ref}"  # type: ignore[union-attr]
            for output, ref in body.outputs
            if not frame.wide(ref)
        }
        return Ways(
            name,
            fields(planned, arm.kept),
            tuple(dict.fromkeys(frame.space.merged(r.cells) for r in frame.numbered)),
            tuple(self._own(step) for step in sweeps),
            tuple(self._own(step) for step in islands),
            tuple(self._own(step) for step in walked),
            tuple((f"to.{o}", key) for o, key in arrays.items() if o not in kept),
            tuple((o, arrays[o] if way == "forward" else f"tensor {o}") for o in arm.kept),
            shapes,
            way,
            self._once(numbers(name, body)).name,
            tuple(x for x in grouping if x is not None),
        )

    def _own(self, step: Step) -> Step:
        """A step whose kernels are printed once."""
        if isinstance(step, TileStep):
            return replace(step, kernel=self._once(step.kernel))
        phases = tuple(replace(p, kernel=self._once(p.kernel)) for p in step.phases)
        if step.kernel is None:
            return replace(step, phases=phases)
        whole = in_one_program(step.kernel.name, step.kernel.doc[0], phases)
        assert whole.kernel is not None
        return replace(whole, kernel=self._once(whole.kernel))

    def _once(self, function: Function) -> Function:
        """The function that does the same, if there is one already."""
        same = replace(function, name="", doc=())
        if same not in self.functions:
            assert all(function.name != other.name for other in self.functions.values())
            self.functions[same] = function
        return self.functions[same]
