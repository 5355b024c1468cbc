"""The kernels of a norm: for each of its variants both directions, in each layout of the data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import Program
from metanorm.nest.arguments import divisible
from metanorm.nest.eligibility import NoKernels, ineligible, unsupported
from metanorm.nest.layouts import arranged, layouts
from metanorm.nest.nest import Nest
from metanorm.nest.nest_from_plan import nest_from_plan
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import Direction, Directions, directions
from metanorm.plan.sweeps import plan


@dataclass(frozen=True)
class Variant:
    """The kernels for one way through the modes, by the axis along which rows lie."""

    name: str
    forward: Mapping[str, Nest]
    backward: Mapping[str, Nest]


@dataclass(frozen=True)
class NormKernels:
    """The kernels of a norm, and what divides lengths of its dimensions."""

    program: Program
    variants: tuple[Variant, ...]
    divisible: tuple[tuple[str, tuple[str | int, ...]], ...]

    def __iter__(self) -> Iterator[Nest]:
        for variant in self.variants:
            for vector, nest in variant.forward.items():
                yield from (nest, variant.backward[vector])


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
    found: dict[Direction, dict[str, Nest]] = {"forward": {}, "backward": {}}
    for layout in layouts(both.forward):
        pair = {way: arranged(program, layout) for way, program in programs.items()}
        for way, laid_out in pair.items():
            if laid_out is None or None in pair.values():
                continue
            program, loops = laid_out
            planned = plan(program)
            _demand(unsupported(planned))
            nest = nest_from_plan(planned, both.variant, way, layout, loops, both.kept)
            found[way][layout.vector] = nest
    return Variant(both.variant, found["forward"], found["backward"])
