"""Compute the product of the data with a smaller matrix in fewer passes over the data.

Scales of the product become part of the matrix: `sum(w * x[C -> D] over D) * weight` is as large as
`x`, `w * weight` is not. Differences from two centres become one: if the program multiplies x - m
by itself, for a covariance about the mean m, the product of w and x - c is that of w and x - m plus
that of w and m - c, which is small. That is done where w depends on the covariance, in every call:
another product would take in the mean, and with it a NaN of any other sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from metanorm.ir.aggregation import Aggregation
from metanorm.ir.dependents import constant_dependents
from metanorm.ir.exposure import exposed_to_nan
from metanorm.ir.nodes import Let, Map, Pool, Ref, Rename
from metanorm.ir.operands import every_let, operands
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder
from metanorm.passes.products import covariances, is_plain


def factors(program: Program) -> Program:
    """The program in which the smaller factors of products are scaled, instead of the products."""
    return _Factors(program).run()


class _Product(NamedTuple):
    """The sum over axes of a matrix times a larger value."""

    matrix: Ref
    larger: Ref
    over: Aggregation


class _Factors:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.ops, self.types = program.index.ops, program.index.types
        self.data = {leaf for dim in program.inputs[0].dims for leaf in self.b.space.leaves(dim)}
        self.exposed = exposed_to_nan(program)
        self.uses = Counter(ref for let in every_let(program.body) for ref in operands(let.op))
        self.uses.update(ref for _, ref in program.outputs)
        self.uses.update(update.value for update in program.updates)
        # By the value of which there is a covariance, which has its differences from the mean.
        self.means = {c.factors.value: c.centre for c in covariances(program)}
        # By the same value: what depends on the covariance in every call, as on a NaN in any pool.
        self.dependents = {
            c.factors.value: constant_dependents(program, c.name) for c in covariances(program)
        }

    def run(self) -> Program:
        is_changed = False
        for let in self.program.body:
            self.b.span = let.span
            result = self._smaller(let)
            if result is None:
                self.b.copy(let)
            else:
                self.b.substitute(let, result)
                is_changed = True
        return self.b.finish() if is_changed else self.program

    def _smaller(self, let: Let) -> Ref | None:
        """The value with fewer operations on large tensors; `None` if it is no such product."""
        match let.op:
            case Map("mul" | "div" as function, (total, scale)):
                return self._multiplied(total, [(function, scale)])
            case Map("rescale", (total, centre, shift, *scales)):
                if self.b.constant_value(self.b.value_map[centre]) == 0:
                    return self._multiplied(total, [("mul", scale) for scale in scales], shift)
            case Pool():
                product = self._product(let.name)
                if product is not None and self._centre(product) is not None:
                    return self._added(product, self.b.value_map[product.matrix])
        return None

    def _multiplied(
        self, total: Ref, scales: Sequence[tuple[str, Ref]], shift: Ref | None = None
    ) -> Ref | None:
        """A product with all of these scales in its matrix, plus a shift."""
        product = self._product(total)
        if product is None or self.uses[total] != 1 or total in self.exposed:
            return None
        wanted = {axis for _, scale in scales for axis in self.types[scale].axes}
        if not wanted <= set(self.types[product.matrix].axes) - {axis for axis, _ in product.over}:
            return None
        matrix = self.b.value_map[product.matrix]
        for function, scale in scales:
            matrix = self.b.map(function, matrix, self.b.value_map[scale], name="%scale")
        return self._added(product, matrix, shift)

    def _added(self, product: _Product, matrix: Ref, shift: Ref | None = None) -> Ref:
        """The product with a scaled matrix, plus a shift. It is about the mean if that is there."""
        larger = self.b.value_map[product.larger]
        shifts = [] if shift is None else [self.b.value_map[shift]]
        difference = self._centre(product)
        if difference is not None:
            copy = self.ops[product.larger]
            assert isinstance(copy, Rename)
            value, centre = (self.b.value_map[ref] for ref in difference)
            mean = self.b.value_map[self.means[difference[0]]]
            gap = self.b.map("sub", mean, centre)
            of_gap = self.b.emit(Rename(gap, copy.old, copy.new))
            shifts.insert(0, self._sum(matrix, of_gap, product.over))
            larger = self.b.map("sub", value, mean)
            larger = self.b.emit(Rename(larger, copy.old, copy.new))
        result = self._sum(matrix, larger, product.over)
        if len(shifts) == 2:
            shifts = [self.b.map("add", *shifts, name="%shift")]
        return self.b.map("add", result, *shifts) if shifts else result

    def _sum(self, matrix: Ref, value: Ref, over: Aggregation) -> Ref:
        return self.b.emit(Pool("sum", self.b.map("mul", matrix, value), over))

    def _product(self, total: Ref) -> _Product | None:
        """What a value is the product of, if it is as large as the data and one factor is not."""
        op = self.ops.get(total)
        if not (isinstance(op, Pool) and op.statistic == "sum" and is_plain(op)):
            return None
        product = self.ops[op.value]
        if not (isinstance(product, Map) and product.function == "mul"):
            return None
        pooled = {axis for axis, _ in op.over}
        for matrix, larger in (product.arguments, product.arguments[::-1]):
            matrix_axes = set(self.types[matrix].axes)
            if (
                pooled <= matrix_axes
                and not self.data <= matrix_axes
                and self.data <= set(self.types[total].axes)
            ):
                return _Product(matrix, larger, op.over)
        return None

    def _centre(self, product: _Product) -> tuple[Ref, Ref] | None:
        """The value and the centre of the difference in a product, if its matrix depends on a
        covariance of the same value, about the mean."""
        copy = self.ops[product.larger]
        difference = self.ops[copy.value] if isinstance(copy, Rename) else None
        if not isinstance(difference, Map) or difference.function != "sub":
            return None
        value, centre = difference.arguments
        mean = self.means.get(value)
        if mean is None or centre == mean or product.matrix not in self.dependents[value]:
            return None
        whole = set(self.types[value].axes)
        narrow = all(not whole <= set(self.types[ref].axes) for ref in (centre, mean))
        return (value, centre) if narrow else None
