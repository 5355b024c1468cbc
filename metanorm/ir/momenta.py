"""What the momenta of running statistics are called, wherever a call has to bring them."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.ir.nodes import Program, Update
from metanorm.ir.scalar import Scalar


def counts_batches(program: Program) -> bool:
    """Whether `num_batches_tracked` counts.

    As in torch, it stays zero where all running statistics are means of those of each sample, as
    in instance norm, unless the spec itself asks for the average of all batches.
    """
    return any(u.averages and not (u.of_samples and u.momentum) for u in program.updates)


def flag_alone_decides(program: Program) -> bool:
    """Whether evaluation measures its input wherever `track_running_stats` is off, even where there
    are running statistics.

    That is how instance norm reads a flag that somebody sets later. Batch norm goes on using what
    it has.
    """
    averaged = [u for u in program.updates if u.averages]
    return bool(averaged) and all(u.of_samples for u in averaged)


def momenta(program: Program) -> dict[Scalar | None, str]:
    """The argument that brings the momentum of each running statistic."""
    return momenta_of(program.updates)


def momenta_of(updates: Iterable[Update]) -> dict[Scalar | None, str]:
    """The same for updates of which there is no program yet. No tensor may be called so."""
    distinct = dict.fromkeys(u.momentum for u in updates if u.averages)
    return {m: "momentum" if i == 0 else f"momentum_{i + 1}" for i, m in enumerate(distinct)}
