"""The kernels of a norm: for each of its variants both directions, in each layout of the data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import Program
from metanorm.nest.arguments import Field, divisible, fields
from metanorm.nest.eligibility import NoKernels, ineligible, unsupported
from metanorm.nest.layouts import Group, Layout, arranged, layouts
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import Direction, Directions, directions
from metanorm.plan.sweeps import Plan, plan


@dataclass(frozen=True)
class Kernel:
    """One kernel: what is done with the data, in which order, and what a call has to bring.

    `loops` are the axes of the data, outermost first; `kept` are the measured values that pass
    from the forward kernel to the backward one.
    """

    variant: str
    direction: Direction
    layout: Layout
    plan: Plan
    loops: tuple[Group, ...]
    fields: tuple[Field, ...]
    kept: tuple[str, ...]

    @property
    def measured(self) -> tuple[tuple[str, ...], ...]:
        """The cells of statistics, by axes that are not split."""
        space = self.plan.program.index.space
        return tuple(dict.fromkeys(space.merged(r.cells) for r in self.plan.reductions))


@dataclass(frozen=True)
class Variant:
    """The kernels for one way through the modes, by the axis along which rows lie."""

    name: str
    forward: Mapping[str, Kernel]
    backward: Mapping[str, Kernel]


@dataclass(frozen=True)
class NormKernels:
    """The kernels of a norm, and what divides lengths of its dimensions."""

    program: Program
    variants: tuple[Variant, ...]
    divisible: tuple[tuple[str, tuple[str | int, ...]], ...]

    def __iter__(self) -> Iterator[Kernel]:
        for variant in self.variants:
            for vector, kernel in variant.forward.items():
                yield from (kernel, variant.backward[vector])


@functools.lru_cache(maxsize=2)  # each target asks for them, norm by norm
def kernels_of(program: Program) -> NormKernels:
    """The kernels of an optimised program, for any target. Raises `NoKernels`."""
    _demand(ineligible(program))
    try:
        variants = tuple(_variant(both) for both in directions(program))
    except NotDerivable as error:
        raise NoKernels(str(error)) from error
    return NormKernels(program, variants, tuple(divisible(program)))


def _demand(reasons: Iterable[str]) -> None:
    reason = next(iter(reasons), None)
    if reason is not None:
        raise NoKernels(reason)


def _variant(both: Directions) -> Variant:
    """All layouts that both directions can be read in."""
    programs: Mapping[Direction, Program] = {"forward": both.forward, "backward": both.backward}
    found: dict[Direction, dict[str, Kernel]] = {"forward": {}, "backward": {}}
    for layout in layouts(both.forward):
        pair = {way: arranged(program, layout) for way, program in programs.items()}
        for way, laid_out in pair.items():
            if laid_out is None or None in pair.values():
                continue
            program, loops = laid_out
            planned = plan(program)
            _demand(unsupported(planned))
            known = fields(planned, both.kept)
            loops = with_groups(planned, loops)
            kernel = Kernel(both.arm, way, layout, planned, loops, known, both.kept)
            found[way][layout.vector] = kernel
    return Variant(both.arm, found["forward"], found["backward"])


def with_groups(planned: Plan, loops: tuple[Group, ...]) -> tuple[Group, ...]:
    """The loops, with one over groups of rows around that over the rows."""
    found: list[Group] = []
    for group in loops:
        if planned.cell is not None and group == (planned.grouped,):
            found.append((planned.cell,))
        found.append(group)
    return tuple(found)
