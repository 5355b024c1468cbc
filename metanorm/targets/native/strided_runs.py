"""Print statistics over strided runs of an array, by calls of functions in the header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Pool, Ref
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Assign, Expr, ExprStmt, Name, Prefix, Stmt
from metanorm.targets.native.values import NarrowValues

LINE_FUNCTIONS = {"sum": "sum_along", "mean": "mean_along"}
MOMENTS = ("mean", "var")


def is_strided_run(values: NarrowValues, op: Pool, pooled: Sequence[str]) -> bool:
    """Whether a pool is unweighted, and its elements have a constant stride in one array."""
    if op.statistic not in (*LINE_FUNCTIONS, *MOMENTS) or op.where or op.weight:
        return False
    by_index = any(isinstance(matrix, ByIndex) for _, matrix in op.over)
    if by_index or not values.has_array(op.value):
        return False
    order = values.ctx.axis_order(op.value)
    if not set(pooled) <= set(order):
        return False
    first = order.index(pooled[0])
    return order[first : first + len(pooled)] == tuple(pooled)


def strided_statistic(
    values: NarrowValues, results: Mapping[str, Ref], op: Pool, pooled: Sequence[str]
) -> Stmt:
    """The statement that computes one element of a pool. `results` has the values by statistic."""
    f = values.ctx
    order = f.axis_order(op.value)
    at = values.loop_positions(order)
    first = Prefix("&", values.value(op.value, {**at, **dict.fromkeys(pooled, cir.Number(0))}))
    inner_axes = order[order.index(pooled[-1]) + 1 :]
    run: tuple[Expr, ...] = (first, f.volume(pooled), f.volume(inner_axes))
    targets = {statistic: values.value(ref, at) for statistic, ref in results.items()}
    if set(targets) <= set(LINE_FUNCTIONS):
        ((statistic, target),) = targets.items()
        return Assign(target, "=", Apply(LINE_FUNCTIONS[statistic], run))
    result_pointers = (Prefix("&", targets[s]) if s in targets else Name("NULL") for s in MOMENTS)
    return ExprStmt(Apply("moments_along", (*run, *result_pointers)))
