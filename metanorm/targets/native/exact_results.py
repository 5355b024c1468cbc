"""Results in float64, which keep the digits of accumulators that values in float32 would lose."""

from __future__ import annotations

from metanorm.ir.nodes import Ref
from metanorm.ir.outputs import FLOAT64
from metanorm.nest.nest import Nest
from metanorm.nest.statements import Finish, Store


def exact_results(nest: Nest) -> dict[str, Finish]:
    """By array, the results in float64 that are statistics of the data, and nothing else."""
    dtypes = dict(nest.program.output_dtypes)
    users = nest.program.index.users
    exact: dict[str, Finish] = {}
    for store in (s for _, s in nest.statements() if isinstance(s, Store)):
        finish = nest.finishes.get(store.value)
        is_float64 = dtypes.get(store.array.removeprefix("to.")) == FLOAT64
        if finish is None or not is_float64 or users[store.value]:
            continue
        if nest.reductions[finish.reduction].terminal:
            exact[store.array] = finish
    return exact


def exact_alone(nest: Nest) -> frozenset[Ref]:
    """The statistics of `exact_results` that nothing needs in the precision of arithmetic."""
    exact = exact_results(nest)
    stored = [s for _, s in nest.statements() if isinstance(s, Store)]
    rounded = {s.value for s in stored if s.array not in exact}
    return frozenset({finish.let.name for finish in exact.values()} - rounded)
