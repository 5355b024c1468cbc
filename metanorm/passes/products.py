"""Sums of products about several centres: the data is multiplied once.

A covariance is such a sum, and a product of matrices. Of covariances about several centres, as of
the batch and of the instance, one about the mean is computed, and the others come from it: the sum
of (x - c) (x' - c') is that about the mean, and the product of how far the mean is from the centres
for each element.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from metanorm.ir.aggregation import Aggregation, Ones
from metanorm.ir.nodes import Count, Let, Map, Op, Pool, Program, Ref, Rename
from metanorm.passes.builder import Builder


def products(program: Program) -> Program:
    """The program with one sum about the mean in the place of several about other centres."""
    found = [_centred(program, let) for let in program.body]
    centres = {(c.pair, c.centre, c.other) for c in found if c is not None}
    several = Counter(pair for pair, _, _ in centres)
    if not any(count > 1 for count in several.values()):
        return program
    builder = Builder(program)
    for let, centred in zip(program.body, found):
        if centred is not None and several[centred.pair] > 1:
            builder.span = let.span
            builder.substitute(let, _from_mean(builder, centred))
        else:
            builder.copy(let)
    return builder.finish()


class _Pair(NamedTuple):
    """A value, with the axes that one of its copies is renamed from and to, and what is pooled."""

    value: Ref
    old: str
    new: str
    over: Aggregation


class _Centred(NamedTuple):
    """A sum of products of differences: what of, and the centres of both factors."""

    pair: _Pair
    centre: Ref
    other: Ref


def _centred(program: Program, let: Let) -> _Centred | None:
    """What a value is a sum of products of, if its centres do not vary in the sum."""
    ops, op = program.index.ops, let.op
    if not (isinstance(op, Pool) and op.statistic == "sum" and _plain(op)):
        return None
    product = ops[op.value]
    if not (isinstance(product, Map) and product.function == "mul"):
        return None
    for first, second in (product.arguments, product.arguments[::-1]):
        copy = ops[second]
        if not isinstance(copy, Rename):
            continue
        left, right = ops[first], ops[copy.value]
        if not (_difference(left) and _difference(right)):
            continue
        assert isinstance(left, Map) and isinstance(right, Map)
        (value, centre), (same, other) = left.arguments, right.arguments
        pooled = {axis for axis, _ in op.over}
        centres = {a for ref in (centre, other) for a in program.index.types[ref].axes}
        bases = {program.index.space.base(axis) for axis in centres}
        whole = pooled <= set(program.index.types[value].axes)
        if value == same and whole and pooled.isdisjoint(bases | {copy.old, copy.new}):
            return _Centred(_Pair(value, copy.old, copy.new, op.over), centre, other)
    return None


def _difference(op: Op) -> bool:
    return isinstance(op, Map) and op.function == "sub"


def _from_mean(b: Builder, centred: _Centred) -> Ref:
    """The sum about the mean, and what the centres add to it."""
    value, old, new, over = centred.pair
    value = b.value_map[value]
    mean = b.emit(Pool("mean", value, over))

    def product(first: Ref, second: Ref) -> Ref:
        return b.map("mul", first, b.emit(Rename(second, old, new)))

    gap = b.map("sub", value, mean)
    total = b.emit(Pool("sum", product(gap, gap), over))
    centres = b.value_map[centred.centre], b.value_map[centred.other]
    if mean in centres:
        return total
    apart = product(*(b.map("sub", mean, centre) for centre in centres))
    return b.map("add", total, b.map("mul", apart, b.emit(Count(over))))


def _plain(op: Pool) -> bool:
    unweighed = op.where is None and op.weight is None and not op.ddof and op.about is None
    return unweighed and all(isinstance(matrix, Ones) for _, matrix in op.over)
