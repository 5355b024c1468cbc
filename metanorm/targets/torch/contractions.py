"""Sums of products over shared axes, as products of matrices, or one `einsum` that never holds the
products of all elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Let, Map, Number, Pool, Ref, Rename, Repeat
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    IfElse,
    Literal,
    Name,
    Stmt,
    Unary,
)
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context, is_square
from metanorm.targets.torch.layout import Dim, Dims, Value, call

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Sum(NamedTuple):
    """What a contraction is added to: `beta * plus + alpha * contraction`.

    `beta` and `alpha` are numbers of the program, if there are any, and may change their sign.
    """

    contraction: Ref
    plus: Ref
    beta: Ref | None
    alpha: Ref | None
    negative: str  # which of `beta` and `alpha` is subtracted, if one is


class Contractions:
    """The contractions of one function, found before anything is printed."""

    def __init__(self, context: Context, broadcaster: Broadcaster) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.factors: dict[Ref, tuple[Ref, ...]] = {}  # of each sum that is a contraction
        self.sums: dict[Ref, _Sum] = {}  # maps that are one operation with a contraction
        self.absorbed: set[Ref] = set()  # products and contractions that others print
        self.multipliers: dict[tuple[Ref, Ref], Value] = {}  # by contraction and factor
        for let in context.lets.values():
            self._find_factors(let)
        for let in context.lets.values():
            self._find_sum(let)

    def _find_factors(self, let: Let) -> None:
        op = let.op
        if not isinstance(op, Pool) or op.statistic != "sum" or op.where or op.weight:
            return
        if not all(isinstance(matrix, Ones) for _, matrix in op.over):
            return
        products: list[Ref] = []
        factors = self._unfolded(op.value, products)
        axes = self.ctx.lets[op.value].type.axes
        types = [self.ctx.lets[ref].type for ref in factors]
        reals = all(t.kind == "real" for t in types)
        inner = all(set(t.axes) < set(axes) for t in types) or self._of_matrix(factors, axes)
        groups = sum(self.ctx.space[axis].variadic for axis in axes)
        if products and reals and inner and groups <= 1:
            self.factors[let.name] = tuple(factors)
            self.absorbed.update(products)

    def _of_matrix(self, factors: list[Ref], axes: tuple[str, ...]) -> bool:
        """Whether a matrix is multiplied by a vector that was found along its other axis."""
        lets = [self.ctx.lets[ref] for ref in factors]
        vector = any(isinstance(let.op, Rename) and len(let.type.axes) == 1 for let in lets)
        return vector and len(axes) == len(lets) == 2

    def _unfolded(self, ref: Ref, products: list[Ref]) -> list[Ref]:
        """The factors of a product that nothing else needs.

        A product that is no larger than one of its factors, and not as large as the data, is one.
        """
        op = self.ctx.lets[ref].op
        if not isinstance(op, Map) or op.function != "mul" or is_square(op):
            return [ref]
        axes = self.ctx.lets[ref].type.axes
        scales = any(self.ctx.lets[part].type.axes == axes for part in op.arguments)
        if self.ctx.use_counts[ref] != 1 or (products and scales and not self.ctx.is_wide(ref)):
            return [ref]
        products.append(ref)
        return [factor for part in op.arguments for factor in self._unfolded(part, products)]

    def _find_sum(self, let: Let) -> None:
        """A map that adds something to a contraction, or subtracts one from the other."""
        op = let.op
        if not isinstance(op, Map) or op.function not in ("add", "sub"):
            return
        for place, (ref, other) in enumerate((op.arguments, op.arguments[::-1])):
            contraction, alpha = self._scaled(ref)
            types = self.ctx.lets[contraction].type, self.ctx.lets[other].type
            read_once = self.ctx.use_counts[contraction] == 1 and contraction in self.factors
            if not read_once or not types[1].axes or types[1].kind != "real":
                continue
            if types[0].axes != let.type.axes or contraction in self.absorbed:
                continue
            plus, beta = self._scaled(other)
            if beta is None or self.ctx.lets[plus].type != types[1]:
                plus, beta = other, None
            negative = ("beta", "alpha")[place] if op.function == "sub" else ""
            self.sums[let.name] = _Sum(contraction, plus, beta, alpha, negative)
            self.absorbed.update((contraction, ref))
            if beta is not None:
                self.absorbed.add(other)
            return

    def _scaled(self, ref: Ref) -> tuple[Ref, Ref | None]:
        """The value that this is a multiple of, and the number, where nothing else reads it."""
        op = self.ctx.lets[ref].op
        if isinstance(op, Map) and op.function == "mul" and self.ctx.use_counts[ref] == 1:
            for number, value in (op.arguments, op.arguments[::-1]):
                if isinstance(self.ctx.lets[number].op, Number):
                    return value, number
        return ref, None

    # ---- loops

    def prepare(self, op: Repeat, out: list[Stmt]) -> None:
        """Matrices from outside a loop, which it multiplies by vectors: their gradients are taken
        together."""
        inside = {*op.inside, *(let.name for let in op.body)}
        products: dict[Ref, list[tuple[Ref, Ref]]] = {}
        for let in op.body:
            matrix_ref = self._matrix_of_vector(let)
            if matrix_ref is not None and matrix_ref not in inside:
                use = (let.name, matrix_ref)
                products.setdefault(self._origin(matrix_ref), []).append(use)
        for matrix, uses in products.items():
            value = self.ctx.in_variable(self.ctx.layouts.compact(self.ctx.not_none(matrix)), out)
            name = Name(self.ctx.local("multiplier"))
            times: Expr = self.ctx.lengths.number(op.count)
            if len(uses) > 1:
                times = Binary("*", (Literal(len(uses)), times))
            out.append(Assign((name,), call("runtime.Multiplier", value.expr, times)))
            for product, ref in uses:
                dims = tuple(Dim(d.axis) for d in self.ctx.values[ref].dims if d.full)
                self.multipliers[product, ref] = Value(name, dims)

    def _matrix_of_vector(self, let: Let) -> Ref | None:
        """The matrix of a product of a matrix and a vector; `None` for any other value."""
        by_axes = {self.ctx.lets[ref].type.axes: ref for ref in self.factors.get(let.name, ())}
        lengths = sorted(map(len, by_axes))
        if lengths != [1, 2] or len(self.factors[let.name]) != 2:
            return None
        inner, axes = sorted(by_axes, key=len)
        is_product = {*axes} == {*inner, *let.type.axes} and len(let.type.axes) == 1
        variadic = any(self.ctx.space[axis].variadic for axis in axes)
        return by_axes[axes] if is_product and not variadic else None

    def _origin(self, ref: Ref) -> Ref:
        """The value that this is under other names of its axes."""
        op = self.ctx.lets[ref].op
        return self._origin(op.value) if isinstance(op, Rename) else ref

    # ---- printing

    def contract(self, let: Let, out: list[Stmt]) -> None:
        """The call of the runtime for a contraction, or for a sum with one."""
        added = self.sums.get(let.name)
        name = let.name if added is None else added.contraction
        values = [self._factor(name, ref) for ref in self.factors[name]]
        dims = tuple(Dim(axis) for axis in self.ctx.lets[name].type.axes)
        keywords = {} if added is None else self._keywords(added, dims, out)
        chain = self._chain(values, dims)
        if chain is not None:
            expr = call("runtime.matmul", *chain, **keywords)
        else:
            # A multiplier is a factor of `matmul` alone.
            values = [self.ctx.layouts.compact(self.ctx.not_none(r)) for r in self.factors[name]]
            tensors = [self.ctx.tensor(v.expr) if v.number else v.expr for v in values]
            equation = Literal(self._equation(values, dims))
            expr = call("runtime.contracted", equation, *tensors, **keywords)
        of_sum = "y" if self.ctx.is_wide(let.name) else "value"
        self.ctx.bind(let, expr, dims, out, "total" if added is None else of_sum)

    def _factor(self, contraction: Ref, ref: Ref) -> Value:
        multiplier = self.multipliers.get((contraction, ref))
        return multiplier or self.ctx.layouts.compact(self.ctx.not_none(ref))

    def _keywords(self, added: _Sum, dims: Dims, out: list[Stmt]) -> dict[str, Expr]:
        """What is added, and how often both count."""
        value = self.ctx.values[added.plus]
        if value.optional and (
            added.beta is not None or added.negative or self.ctx.absent_value(added.plus)
        ):
            value = self.ctx.not_none(added.plus)
        spread = self.broadcaster.spread(value, [d.axis for d in dims])
        expr = self.ctx.layouts.aligned(replace(spread, optional=False), dims)
        if value.number:
            expr = self.ctx.tensor(expr)
        if value.optional and not isinstance(expr, Name):
            missing = Binary("is", (Name(self.ctx.argument_name(added.plus)), Literal(None)))
            shift = Name(self.ctx.local("shift"))
            out.append(Assign((shift,), IfElse(missing, Literal(None), expr)))
            expr = shift
        keywords: dict[str, Expr] = {"plus": expr}
        for word, number in (("beta", added.beta), ("alpha", added.alpha)):
            factor = None if number is None else self.ctx.values[number].expr
            if added.negative == word:
                factor = Literal(-1) if factor is None else _negative(factor)
            if factor is not None:
                keywords[word] = factor
        return keywords

    def _chain(self, values: Sequence[Value], dims: Dims) -> list[Expr] | None:
        """The factors in the order in which they are a product of matrices, if they are one."""
        if any(value.number or value.optional or value.may_lack_dims for value in values):
            return None
        axes = [d.axis for d in dims]
        terms = [[d.axis for d in value.dims] for value in values]
        if len(values) == 2 and len(axes) == 1:
            return self._matrix_and_vector(values, terms, axes[0])
        if len(axes) < 2 or any(self.ctx.space[axis].variadic for axis in axes[-2:]):
            return None
        lead, (at, end) = axes[:-2], axes[-2:]
        counts = Counter(axis for term in terms for axis in term if axis not in lead)
        if any(count != (1 if axis in (at, end) else 2) for axis, count in counts.items()):
            return None  # an axis that three factors share joins no two of them
        chain: list[Expr] = []
        left = list(zip(values, terms))
        while left:
            factor = next((pair for pair in left if at in pair[1]), None)
            if factor is None or factor[1][:-2] != lead or at in lead or len(factor[1]) < 2:
                return None
            value, term = factor
            turned = term[-1] == at
            if any(self.ctx.space[axis].variadic for axis in term[-2:]):
                return None
            chain.append(_turned(value.expr) if turned else value.expr)
            at = term[-2] if turned else term[-1]
            left.remove(factor)
        return chain if at == end else None

    def _matrix_and_vector(
        self, values: Sequence[Value], terms: list[list[str]], axis: str
    ) -> list[Expr] | None:
        """A matrix and a vector in the order in which they are multiplied."""
        if any(self.ctx.space[a].variadic for term in terms for a in term):
            return None
        for (matrix, vector), (rows, inner) in (
            (values, terms),
            (values[::-1], terms[::-1]),
        ):
            if len(rows) == 2 and len(inner) == 1:
                if rows == [axis, *inner]:
                    return [matrix.expr, vector.expr]
                if rows == [*inner, axis]:
                    return [vector.expr, matrix.expr]
        return None

    def _equation(self, values: Sequence[Value], dims: Dims) -> str:
        """What `einsum` is to add up: axes are letters, and a group of axes is `...`."""
        letters = self._letters([d for value in values for d in value.dims])
        terms = ",".join(self._term(value.dims, letters) for value in values)
        return f"{terms}->{self._term(dims, letters)}"

    def _letters(self, dims: list[Dim]) -> dict[str, str]:
        """A letter for each axis: its own first letter where that is free."""
        letters: dict[str, str] = {}
        for axis in dict.fromkeys(d.axis for d in dims):
            first_letter = axis[0].lower()
            candidates = first_letter + LETTERS if first_letter in LETTERS else LETTERS
            free = next(letter for letter in candidates if letter not in letters.values())
            letters[axis] = "..." if self.ctx.space[axis].variadic else free
        return letters

    def _term(self, dims: Dims, letters: dict[str, str]) -> str:
        return "".join(letters[d.axis] for d in dims)


def _turned(matrix: Expr) -> Expr:
    """The transpose."""
    return Attribute(matrix, "mT")


def _negative(number: Expr) -> Expr:
    if isinstance(number, Literal) and isinstance(number.value, (int, float)):
        return Literal(-number.value)
    return Unary("-", number)
