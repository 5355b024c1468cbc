"""Statistics of narrow values that lie on a line in memory, one step apart: calls of functions that
the header has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Pool, Ref
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Do, Expr, Name, Prefix, Set, Stmt
from metanorm.targets.native.values import Values

ALONG = {"sum": "sum_along", "mean": "mean_along"}
MOMENTS = ("mean", "var")


def on_a_line(values: Values, op: Pool, pooled: Sequence[str]) -> bool:
    """Whether all that is pooled counts alike and lies in one piece of an array, as it is or in
    steps of one length."""
    if op.statistic not in (*ALONG, *MOMENTS) or op.where or op.weight:
        return False
    by_index = any(isinstance(matrix, ByIndex) for _, matrix in op.over)
    if by_index or not values.has_array(op.value):
        return False
    order = values.f.order(op.value)
    if not set(pooled) <= set(order):
        return False
    first = order.index(pooled[0])
    return order[first : first + len(pooled)] == tuple(pooled)


def along(values: Values, results: Mapping[str, Ref], op: Pool, pooled: Sequence[str]) -> Stmt:
    """The statement for one element of a pool. `results` are what it sets, by statistic."""
    f = values.f
    order = f.order(op.value)
    at = values.here(order)
    first = Prefix("&", values.value(op.value, {**at, **dict.fromkeys(pooled, cir.Number(0))}))
    behind = order[order.index(pooled[-1]) + 1 :]
    line: tuple[Expr, ...] = (first, f.volume(pooled), f.volume(behind))
    places = {statistic: values.value(ref, at) for statistic, ref in results.items()}
    if set(places) <= set(ALONG):
        ((statistic, place),) = places.items()
        return Set(place, "=", Apply(ALONG[statistic], line))
    wanted = (Prefix("&", places[s]) if s in places else Name("NULL") for s in MOMENTS)
    return Do(Apply("moments_along", (*line, *wanted)))
