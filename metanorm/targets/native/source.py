"""The kernels of norms in C, as sections of one text. A build defines the macro of one section, so
that unused kernels are never compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from metanorm.nest.kernels import NormKernels
from metanorm.nest.nest import Nest
from metanorm.targets.native.alternatives import with_alternatives
from metanorm.targets.native.cir import Definition, Guarded
from metanorm.targets.native.conditions import with_conditions
from metanorm.targets.native.context import axis_constants
from metanorm.targets.native.kernel import KernelPrinter
from metanorm.targets.native.names import SharedNames
from metanorm.targets.native.sweep_formulas import sweep_formulas

LEAST_ALIKE = 0.5  # of the values of two kernels, so that they stand in one section

Layouts = Mapping[str, Nest]  # the kernel of a variant and direction in each layout


def sections(norms: Iterable[tuple[str, NormKernels]]) -> Iterator[Guarded]:
    """The kernels of the norms with these functions: a section for each direction of those that
    compute much the same, which has all layouts of the data."""
    kernels = [
        (_section_name(function, next(iter(nests.values()))), nests)
        for function, norm in norms
        for variant in norm.variants
        for nests in (variant.forward, variant.backward)
    ]
    for group in _alike(kernels):
        yield _section(group)


def _alike(kernels: Iterable[tuple[str, Layouts]]) -> list[dict[str, Layouts]]:
    """The kernels in groups: of one direction, with a sweep or most values in common with the first
    one."""
    groups: list[tuple[set[str], set[str], dict[str, Layouts]]] = []
    numbers = SharedNames()
    for name, nests in kernels:
        nest = next(iter(nests.values()))
        values = {nest.direction, *numbers.identities(nest, ()).values()}
        sweeps = {formula.text for formula in sweep_formulas(nest)}
        for first_values, first_sweeps, group in groups:
            common = len(values & first_values) / len(values | first_values)
            is_alike = common >= LEAST_ALIKE or not sweeps.isdisjoint(first_sweeps)
            if nest.direction in first_values and is_alike:
                group[name] = nests
                break
        else:
            groups.append((values, sweeps, {name: nests}))
    return [group for _, _, group in groups]


def _section(kernels: Mapping[str, Layouts]) -> Guarded:
    names = SharedNames()
    builds: dict[str, Sequence[Definition]] = {
        f"{section} {_layout_name(nest)}": KernelPrinter(
            nest, tuple(nests.values()), names
        ).definitions()
        for section, nests in kernels.items()
        for nest in nests.values()
    }
    definitions = with_conditions(with_alternatives(builds), tuple(builds))
    return Guarded(tuple(kernels), tuple(definitions))


def build_macros(function: str, nest: Nest) -> str:
    """The macros that a build defines to compile one kernel for one layout."""
    return f"{_section_name(function, nest)} {_layout_name(nest)}"


def _section_name(function: str, nest: Nest) -> str:
    return f"{function}_{nest.variant}_{nest.direction}".upper()


def _layout_name(nest: Nest) -> str:
    return f"ALONG_{axis_constants(nest.program)[nest.layout.vector_axis]}"
