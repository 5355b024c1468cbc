"""Move factors that are constant in a pool out of sums, and take coarse sums from fine ones.

A gradient is full of sums such as sum(dy * scale over D, *S), with a scale that varies along D. It
becomes sum(scale * sum(dy over *S) over D). The data is then only needed for plain sums of dy and
of dy * (x - m), each taken once, on the finest cells that any pool needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from metanorm.ir.aggregation import Aggregation, Grouping, is_partition
from metanorm.ir.nodes import Let, Map, Pool, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder
from metanorm.passes.share import common_refinement, remaining_pool


def sums(program: Program) -> Program:
    """The program with factored sums, and with one sum over fine cells per value."""
    return _share_cells(_factor_out(program))


def _factor_out(program: Program) -> Program:
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        if isinstance(op, Pool) and _is_unweighted_sum(op):
            builder.span = let.span
            builder.substitute(let, _factor_sum(builder, op))
        else:
            builder.copy(let)
    return builder.finish()


def _is_unweighted_sum(op: Pool) -> bool:
    is_unweighted = op.where is None and op.weight is None
    return op.statistic == "sum" and is_unweighted and all(is_partition(m) for _, m in op.over)


def _factor_sum(b: Builder, op: Pool) -> Ref:
    """The sum of a product, with the factors that are constant in each pool outside."""
    factors, negative = _factors(b, op.value)
    axes = b.types[op.value].axes
    outside = [f for f in factors if _is_constant(b, f, op.over)]
    inside = [f for f in factors if f not in outside]
    if len(outside) == len(factors):
        outside, inside = [], factors
    narrow = [f for f in inside if not set(axes) <= set(b.types[f].axes)]
    wide = [f for f in inside if f not in narrow]
    inner = tuple(pair for pair in op.over if all(_is_constant(b, f, (pair,)) for f in narrow))
    if wide and narrow and inner and inner != op.over:
        inner_sum = b.emit(replace(op, value=_product(b, wide), over=inner))
        outer = tuple(pair for pair in op.over if pair not in inner)
        total = b.emit(replace(op, value=_product(b, [inner_sum, *narrow]), over=outer))
    else:
        total = b.emit(replace(op, value=_product(b, [*wide, *narrow])))
    total = _product(b, [*outside, total])
    return b.map("neg", total) if negative else total


def _factors(b: Builder, ref: Ref) -> tuple[list[Ref], bool]:
    """The factors of a value, and whether the value is the negative of their product."""
    op = b.ops[ref]
    if isinstance(op, Map) and op.function == "neg":
        inner, negative = _factors(b, op.arguments[0])
        return inner, not negative
    if isinstance(op, Map) and op.function == "mul":
        left, left_negative = _factors(b, op.arguments[0])
        right, right_negative = _factors(b, op.arguments[1])
        return [*left, *right], left_negative != right_negative
    return [ref], False


def _is_constant(b: Builder, ref: Ref, over: Iterable[tuple[str, Grouping]]) -> bool:
    return all(b.space.is_constant(b.types[ref].axes, axis, matrix) for axis, matrix in over)


def _product(b: Builder, factors: list[Ref]) -> Ref:
    product = factors[0]
    for factor in factors[1:]:
        product = b.map("mul", product, factor)
    return product


def _share_cells(program: Program) -> Program:
    builder = Builder(program)
    overs_by_value: dict[Ref, list[Aggregation]] = {}
    for let in program.body:
        if isinstance(let.op, Pool) and _is_unweighted_sum(let.op):
            overs_of_value = overs_by_value.setdefault(let.op.value, [])
            if let.op.over not in overs_of_value:
                overs_of_value.append(let.op.over)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        if isinstance(let.op, Pool) and isinstance(op, Pool) and _is_unweighted_sum(op):
            cells = common_refinement(overs_by_value[let.op.value])
            if len(overs_by_value[let.op.value]) > 1 and cells:
                _from_cells(builder, let, op, cells)
                continue
        builder.copy(let)
    return builder.finish()


def _from_cells(b: Builder, let: Let, op: Pool, cells: Aggregation) -> None:
    b.span = let.span
    cell_sums = b.emit(replace(op, over=cells))
    remaining = tuple(remaining_pool(b.space, op.over, cells))
    b.substitute(
        let, b.emit(replace(op, value=cell_sums, over=remaining)) if remaining else cell_sums
    )
