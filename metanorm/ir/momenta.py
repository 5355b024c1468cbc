"""Momenta of running statistics: the names of their arguments, and what decides about them."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count

from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Scalar, hyperparameters_in


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
    return {u.momentum: u.argument for u in program.updates if u.averages}


def with_named_momenta(program: Program) -> Program:
    """The program with names of the arguments for momenta: `momentum`, `momentum_2` and so on.

    A hyperparameter that equations read keeps its name to itself: it is an argument of the same
    function, and a momentum need not have its value. No tensor may have these names.
    """
    live = reachable(program)
    ops = [let.op for let in program.body if let.name in live]
    taken = {name for op in ops for name in hyperparameters_in(op)}
    free = (n for n in chain(["momentum"], map("momentum_{}".format, count(2))) if n not in taken)
    distinct = dict.fromkeys(u.momentum for u in program.updates if u.averages)
    names = {momentum: next(free) for momentum in distinct}
    updates = (replace(u, argument=names.get(u.momentum, "")) for u in program.updates)
    return replace(program, updates=tuple(updates))
