"""Lengths of axes that are cut into runs of positions, for examples of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metanorm.ir.program import Equal, Holds, Program
from metanorm.ir.scalar import SizeOf, evaluate, leaves

MAX_TRIED = 8  # lengths of an axis


def length_for_runs(
    program: Program, axis: str, length: int, numbers: Mapping[str, float], room: int = 1
) -> int:
    """A length of an axis, `length` or a little more, with which its runs are as they have to be.

    Behind runs of a written length there are `room` positions. `numbers` has the hyperparameters;
    those that are not in it are as by default.
    """
    names = {**shares(program), **numbers}
    length = max(length, *(room + run for run in _written(program, axis, names)), 0)
    tried = range(length, length + MAX_TRIED)
    return next((n for n in tried if _are_equal(program, axis, n, names)), length)


def shares(program: Program) -> dict[str, float]:
    """The hyperparameters that need not be whole, as by default."""
    floats = (a for a in program.arguments if a.type == "float")
    return {a.name: a.default if isinstance(a.default, (int, float)) else 0.5 for a in floats}


def _written(program: Program, axis: str, names: Mapping[str, float]) -> Iterator[int]:
    """The lengths of runs that do not follow from that of the axis."""
    for check in program.checks:
        if not isinstance(check, Holds) or check.axis != axis:
            continue
        if not any(isinstance(leaf, SizeOf) for leaf in leaves(check.length)):
            yield int(evaluate(check.length, names, {}))


def _are_equal(program: Program, axis: str, length: int, names: Mapping[str, float]) -> bool:
    """Whether runs of an axis of this length are equal where they have to be."""
    space = program.index.space
    for check in program.checks:
        if isinstance(check, Equal):
            runs = [space[name] for name in (check.first, check.second)]
            sizes = [run.size for run in runs if run.piece_of and run.piece_of[0] == axis]
            if len({evaluate(n, names, {axis: length}) for n in sizes if n is not None}) > 1:
                return False
    return True
