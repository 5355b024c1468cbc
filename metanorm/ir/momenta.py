"""Momenta of running statistics: the names of their arguments, and what decides about them."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.ir.program import Program, Update
from metanorm.ir.scalar import Scalar


def counts_batches(program: Program) -> bool:
    """Whether the module counts batches in `num_batches_tracked`.

    As in torch, it does not if all running statistics are means of statistics of samples, as in
    instance norm, unless the spec asks for the average over all batches.
    """
    return any(u.averages and not (u.of_samples and u.momentum) for u in program.updates)


def flag_alone_decides(program: Program) -> bool:
    """Whether evaluation without `track_running_stats` ignores running statistics that exist.

    A user may clear the flag of a module. Instance norm then measures its input; batch norm goes on
    with the running statistics that it has.
    """
    averaged = [u for u in program.updates if u.averages]
    return bool(averaged) and all(u.of_samples for u in averaged)


def momenta(program: Program) -> dict[Scalar | None, str]:
    """The name of the argument for each distinct momentum."""
    return momenta_of(program.updates)


def momenta_of(updates: Iterable[Update]) -> dict[Scalar | None, str]:
    """The same for updates, before there is a program. No tensor may have these names."""
    distinct = dict.fromkeys(u.momentum for u in updates if u.averages)
    return {m: "momentum" if i == 0 else f"momentum_{i + 1}" for i, m in enumerate(distinct)}
