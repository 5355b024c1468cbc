"""The kernels of a norm: a nest per variant, direction and memory layout of the data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from metanorm.ir.program import Program
from metanorm.ir.related_axes import without_further_axes
from metanorm.nest.arguments import divisors
from metanorm.nest.eligibility import NoKernels, ineligible, unsupported
from metanorm.nest.layouts import possible_layouts, program_in_layout
from metanorm.nest.nest import Nest
from metanorm.nest.nest_from_plan import nest_from_plan
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import Direction, Directions, directions
from metanorm.plan.sweeps import plan_sweeps

GROUPED_VECTOR_REASON = "groups of the axis along which memory is contiguous"


@dataclass(frozen=True)
class Variant:
    """The kernels of one variant: a nest per layout, by the layout's vector axis."""

    name: str
    forward: Mapping[str, Nest]
    backward: Mapping[str, Nest]


@dataclass(frozen=True)
class NormKernels:
    """The kernels of a norm, and the divisors of the lengths of its dimensions."""

    program: Program
    variants: tuple[Variant, ...]
    divisors: tuple[tuple[str, tuple[str | int, ...]], ...]

    def __iter__(self) -> Iterator[Nest]:
        for variant in self.variants:
            for vector, nest in variant.forward.items():
                yield from (nest, variant.backward[vector])


@functools.lru_cache(maxsize=2)  # every target asks for the same norm in turn
def kernels_of(program: Program) -> NormKernels:
    """The kernels of an optimised program, for any target. Raises `NoKernels`."""
    program = without_further_axes(program)  # those of which only the constructor asks the length
    _raise_first(ineligible(program))
    try:
        variants = tuple(_variant(pair) for pair in directions(program))
    except NotDerivable as error:
        raise NoKernels(str(error)) from error
    return NormKernels(program, variants, tuple(divisors(program)))


def _raise_first(reasons: Iterable[str]) -> None:
    reason = next(iter(reasons), None)
    if reason is not None:
        raise NoKernels(reason)


def _variant(pair: Directions) -> Variant:
    """The nests of both directions, for every layout that both of them support."""
    programs: Mapping[Direction, Program] = {"forward": pair.forward, "backward": pair.backward}
    nests: dict[Direction, dict[str, Nest]] = {"forward": {}, "backward": {}}
    for layout in possible_layouts(pair.forward):
        arranged_programs = {
            direction: program_in_layout(program, layout) for direction, program in programs.items()
        }
        for direction, laid_out in arranged_programs.items():
            if laid_out is None or None in arranged_programs.values():
                continue
            program, loops = laid_out
            sweep_plan = plan_sweeps(program)
            _raise_first(unsupported(sweep_plan))
            if loops[-1] == (sweep_plan.grouped_axis,):
                continue  # what lies in one piece is of all groups
            nest = nest_from_plan(sweep_plan, pair.variant, direction, layout, loops, pair.kept)
            nests[direction][layout.vector_axis] = nest
    if not nests["forward"]:
        raise NoKernels(GROUPED_VECTOR_REASON)
    return Variant(pair.variant, nests["forward"], nests["backward"])
