"""The cost of a norm by its sweep plan, and whether it has kernels."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from metanorm.explain.formulas import steps_of_sweeps
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.nest.eligibility import NoKernels, unsupported
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import directions
from metanorm.plan.sweeps import Plan, plan_sweeps
from metanorm.targets.registry import KERNEL_TARGETS, target_for_device

BYTES = 4  # of a float32 element


@dataclass(frozen=True)
class Cost:
    """The cost of one direction of one variant: of `train, forward`."""

    of: str
    sweeps: int
    islands: str
    bytes_of_islands: int  # read and written for each element, where an island stays in the cache
    bytes_of_sweeps: int  # the same where every sweep reads from memory
    computes: tuple[str, ...]  # values of each element that depend on other elements
    measures: tuple[str, ...]
    writes: tuple[str, ...]


def direction_costs(optimised: Program) -> tuple[Cost, ...]:
    """The costs of all variants and directions; empty if the norm has no plan."""
    costs: list[Cost] = []
    with suppress(NotDerivable):
        for variant in directions(optimised):
            for direction, program in (
                ("forward", variant.forward),
                ("backward", variant.backward),
            ):
                sweep_plan = plan_sweeps(program)
                if any(unsupported(sweep_plan)):
                    return ()
                costs.append(_direction_cost(sweep_plan, f"{variant.variant}, {direction}"))
    return tuple(costs)


def kernels_text(optimised: Program) -> str:
    """The languages and dimensions of kernels, or why the norm runs on plain torch alone."""
    languages_by_axes: dict[str, list[str]] = {}  # languages, by the axes that they know
    reasons: dict[str, list[str]] = {}
    for target in KERNEL_TARGETS.values():
        try:
            axes = " and ".join(target.kernels(optimised).variants[0].forward)
            languages_by_axes.setdefault(axes, []).append(target.language)
        except NoKernels as reason:
            reasons.setdefault(str(reason), []).append(target.language)
    if not languages_by_axes:
        return f"none, plain torch alone: {'; '.join(reasons)}"
    phrases = [
        f"in {' and in '.join(t)}, for rows along {axes}" for axes, t in languages_by_axes.items()
    ]
    phrases += [f"none in {' or '.join(t)}: {reason}" for reason, t in reasons.items()]
    return "; ".join(phrases)


def execution_status(optimised: Program, device: str = "cpu") -> str:
    """What runs a norm in eager mode on a device type: `kernels`, or `torch: ` and the reason."""
    try:
        target_for_device(device).kernels(optimised)
    except NoKernels as reason:
        return f"torch: {reason}"
    return "kernels"


def _direction_cost(sweep_plan: Plan, title: str) -> Cost:
    space = sweep_plan.program.index.space
    inputs = {name for sweep in sweep_plan.sweeps for name in sweep.reads}
    reads = sum(len(sweep.reads) for sweep in sweep_plan.sweeps)
    written = sum(len(sweep.outputs) for sweep in sweep_plan.sweeps)
    steps = steps_of_sweeps(sweep_plan)
    return Cost(
        of=title,
        sweeps=len(sweep_plan.sweeps),
        islands=_islands(sweep_plan, space),
        bytes_of_islands=BYTES * (len(inputs) + written),
        bytes_of_sweeps=BYTES * (reads + written),
        computes=tuple(line for step in steps for line in step.computes),
        measures=tuple(line for step in steps for line in step.measures),
        writes=tuple(line for step in steps for line in step.writes),
    )


def _islands(sweep_plan: Plan, space: Space) -> str:
    """The islands in words: `one for each N, C.outer: C.inner * *S elements`."""
    shown = {a.name: f"*{a.name}" if a.variadic else a.name for a in space}
    rows = [a for a in sweep_plan.data_axes if a not in sweep_plan.islands]
    cells = [shown[a] for a in sweep_plan.islands if a in shown]
    if not cells:
        return "one: the whole tensor"
    grouped = any("/" in cell for cell in cells)
    factors = [
        f"rows of {shown[a]}" if grouped and a == sweep_plan.grouped_axis else shown[a]
        for a in rows
    ]
    return f"one for each {', '.join(cells)}: {' * '.join(factors) or '1'} elements"
