"""The cost of a norm by its sweep plan, and whether it has kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from string import ascii_lowercase

from metanorm.ir.nodes import Map, Number, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import role_of
from metanorm.ir.scalar import scalar_text
from metanorm.ir.space import Space
from metanorm.nest.eligibility import NoKernels, unsupported
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import directions
from metanorm.plan.sweeps import Plan, Reduction, Sweep, plan_sweeps
from metanorm.targets.registry import KERNEL_TARGETS, target_for_device

INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
BYTES = 4  # of a float32 element


@dataclass(frozen=True)
class Cost:
    """The cost of one direction of one variant: of `train, forward`."""

    of: str
    sweeps: int
    islands: str
    bytes_of_islands: int  # read and written for each element, where an island stays in the cache
    bytes_of_sweeps: int  # the same where every sweep reads from memory
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
        measures=tuple(line for step in steps for line in step.measures),
        writes=tuple(line for step in steps for line in step.writes),
    )


@dataclass(frozen=True)
class SweepSteps:
    """What one sweep reads, measures and writes, with formulas."""

    reads: tuple[str, ...]
    measures: tuple[str, ...]
    writes: tuple[str, ...]


def steps_of_sweeps(sweep_plan: Plan) -> tuple[SweepSteps, ...]:
    """The steps of each sweep of a plan."""
    formulas = _Formulas(sweep_plan)
    measures = [tuple(formulas.measured(sweep)) for sweep in sweep_plan.sweeps]
    writes = [tuple(formulas.written(sweep)) for sweep in sweep_plan.sweeps]
    reads = [sweep.reads for sweep in sweep_plan.sweeps]
    return tuple(map(SweepSteps, reads, measures, writes))


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


class _Formulas:
    """Formulas of wide values, in terms of inputs and narrow values, which get short names."""

    def __init__(self, planned: Plan) -> None:
        self.plan = planned
        self.lets = planned.program.index.lets
        self.wide = {let.name for sweep in planned.sweeps for let in sweep.maps}
        self.short: dict[Ref, str] = {}

    def measured(self, sweep: Sweep) -> Iterator[str]:
        """`sum of d.output * (x - mean) per C`."""
        for r in sweep.reductions:
            yield self._reduction(r)

    def _reduction(self, r: Reduction) -> str:
        title = "mean and variance" if len(r.row.statistics) > 1 else r.row.title
        where = " where the mask is true" if r.where else ""
        cells = f" per {', '.join(r.cells)}" if r.cells else ""
        return f"{title} of {self._text(r.value)[0]}{where}{cells}"

    def written(self, sweep: Sweep) -> Iterator[str]:
        """`d.x = d.output * scale + a * (x - mean) + b`."""
        for name, ref in sweep.outputs:
            yield f"{name} = {self._text(ref)[0]}"

    def _name(self, ref: Ref) -> str:
        """The name of a narrow value: that of the spec, its role, or a letter."""
        op = self.lets[ref].op
        if isinstance(op, Number):
            return scalar_text(op.value)
        if not ref.startswith("%"):
            return ref
        if ref not in self.short:
            role = role_of(ref)
            taken = {*self.lets, *self.short.values()}
            letters = (x + n for n in chain([""], map(str, count(1))) for x in ascii_lowercase)
            self.short[ref] = next(x for x in chain([role or ""], letters) if x and x not in taken)
        return self.short[ref]

    def _text(self, ref: Ref) -> tuple[str, int]:
        let = self.lets[ref]
        if ref not in self.wide or not isinstance(let.op, Map):
            value = getattr(let.op, "value", None)
            if ref in self.wide and isinstance(value, str):
                return self._text(value)
            return self._name(ref), 3
        function, arguments = let.op.function, let.op.arguments
        if function == "rescale":
            return self._rescaled(arguments)
        parts = [self._text(a) for a in arguments]
        if function in INFIX:
            sign, level = INFIX[function]
            left, right = parts
            first = left[0] if left[1] >= level else f"({left[0]})"
            second = right[0] if right[1] > level else f"({right[0]})"
            return f"{first} {sign} {second}", level
        if function == "neg":
            return f"-{parts[0][0]}" if parts[0][1] > 2 else f"-({parts[0][0]})", 1
        return f"{function}({', '.join(text for text, _ in parts)})", 3

    def _rescaled(self, arguments: tuple[Ref, ...]) -> tuple[str, int]:
        x, centre, shift, *factors = (self._text(a) for a in arguments)
        first = (f"{x[0]} - {_factor_text(centre)}", 1) if centre[0] != "0" else x
        text = " * ".join(map(_factor_text, (first, *factors))) if factors else first[0]
        return (text, 2) if shift[0] == "0" else (f"{text} + {shift[0]}", 1)


def _factor_text(term: tuple[str, int]) -> str:
    """A term as a factor, or behind a minus sign: a sum gets parentheses."""
    text, level = term
    return text if level > 1 else f"({text})"
