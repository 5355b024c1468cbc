"""Compute covariances about several centres from one about the mean.

A covariance is a sum of products of differences, which is a matrix product. A norm may need
several, about the means of the batch and of the instance, say. The pass computes one: the sum of
(x - c) (x' - c') over n elements is the sum about the mean m plus n (m - c) (m' - c').
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from metanorm.ir.aggregation import Aggregation, Ones
from metanorm.ir.nodes import Count, Let, Map, Op, Pool, Ref, Rename
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder


def products(program: Program) -> Program:
    """The program with one sum about the mean in place of several about other centres."""
    candidates = [_centred_product(program, let) for let in program.body]
    centres = {c[1:] for c in candidates if c is not None}
    pair_counts = Counter(factors for factors, _, _ in centres)
    if not any(count > 1 for count in pair_counts.values()):
        return program
    builder = Builder(program)
    for let, centred in zip(program.body, candidates):
        if centred is not None and pair_counts[centred.factors] > 1:
            builder.span = let.span
            builder.substitute(let, _from_mean(builder, centred))
        else:
            builder.copy(let)
    return builder.finish()


class ProductFactors(NamedTuple):
    """What sums of products must share: a value x, the renaming of the axis of x that gives x', and
    the pooled axes."""

    value: Ref
    old: str
    new: str
    over: Aggregation


class CentredProduct(NamedTuple):
    """A sum of products of differences, by its name, with the centres of both factors."""

    name: Ref
    factors: ProductFactors
    centre: Ref
    other_centre: Ref


def _centred_product(program: Program, let: Let) -> CentredProduct | None:
    """A binding as a sum of products of differences from centres that are constant in the sum."""
    ops, op = program.index.ops, let.op
    if not (isinstance(op, Pool) and op.statistic == "sum" and is_plain(op)):
        return None
    product = ops[op.value]
    if not (isinstance(product, Map) and product.function == "mul"):
        return None
    for first, second in (product.arguments, product.arguments[::-1]):
        copy = ops[second]
        if not isinstance(copy, Rename):
            continue
        left, right = ops[first], ops[copy.value]
        if not (_is_difference(left) and _is_difference(right)):
            continue
        assert isinstance(left, Map) and isinstance(right, Map)
        (value, centre), (other_value, other) = left.arguments, right.arguments
        pooled_axes = {axis for axis, _ in op.over}
        centres = {a for ref in (centre, other) for a in program.index.types[ref].axes}
        bases = {program.index.space.base(axis) for axis in centres}
        has_all_axes = pooled_axes <= set(program.index.types[value].axes)
        if (
            value == other_value
            and has_all_axes
            and pooled_axes.isdisjoint(bases | {copy.old, copy.new})
        ):
            factors = ProductFactors(value, copy.old, copy.new, op.over)
            return CentredProduct(let.name, factors, centre, other)
    return None


def covariances(program: Program) -> Iterator[CentredProduct]:
    """The sums of products of differences from the mean over the same pools."""
    for let in program.body:
        product = _centred_product(program, let)
        if product is not None and product.centre == product.other_centre:
            mean = Pool("mean", product.factors.value, product.factors.over)
            if program.index.ops[product.centre] == mean:
                yield product


def _is_difference(op: Op) -> bool:
    return isinstance(op, Map) and op.function == "sub"


def _from_mean(b: Builder, centred: CentredProduct) -> Ref:
    """The sum about the centres, from the sum about the mean."""
    factors = centred.factors
    mean = b.emit(Pool("mean", b.value_map[factors.value], factors.over))
    total = product_about_mean(b, factors)
    centres = b.value_map[centred.centre], b.value_map[centred.other_centre]
    if mean in centres:
        return total
    first, second = (b.map("sub", mean, centre) for centre in centres)
    offset = b.map("mul", first, b.emit(Rename(second, factors.old, factors.new)))
    return b.map("add", total, b.map("mul", offset, b.emit(Count(factors.over))))


def product_about_mean(b: Builder, factors: ProductFactors) -> Ref:
    """The sum of products of differences from the mean, bound here unless it is bound already."""
    value, over = b.value_map[factors.value], factors.over
    gap = b.map("sub", value, b.emit(Pool("mean", value, over)))
    copy = b.emit(Rename(gap, factors.old, factors.new))
    return b.emit(Pool("sum", b.map("mul", gap, copy), over))


def is_plain(op: Pool) -> bool:
    """Whether a statistic counts all elements of whole axes alike."""
    unweighed = op.where is None and op.weight is None and not op.ddof and op.about is None
    return unweighed and all(isinstance(matrix, Ones) for _, matrix in op.over)
