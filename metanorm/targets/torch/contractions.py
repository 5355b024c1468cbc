"""Print sums of products over shared axes as one `einsum`, which never stores the products."""

from __future__ import annotations

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Let, Map, Pool, Ref, Rename
from metanorm.targets.python.pyir import Literal, Stmt
from metanorm.targets.torch.context import Context, is_square
from metanorm.targets.torch.layout import Dim, Dims, call

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Contractions:
    """Finds the contractions of one function, and prints them."""

    def __init__(self, context: Context) -> None:
        self.ctx = context
        self.factors: dict[Ref, tuple[Ref, ...]] = {}  # of each sum that is a contraction
        self.absorbed: set[Ref] = set()  # products that are never printed
        for let in context.lets.values():
            self._add_contraction(let)

    def _add_contraction(self, let: Let) -> None:
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
        """Whether the factors are a matrix and a vector that is renamed from its other axis."""
        lets = [self.ctx.lets[ref] for ref in factors]
        vector = any(isinstance(let.op, Rename) and len(let.type.axes) == 1 for let in lets)
        return vector and len(axes) == len(lets) == 2

    def _unfolded(self, ref: Ref, products: list[Ref]) -> list[Ref]:
        """The factors of a product, if nothing else reads the product; else the value itself."""
        op = self.ctx.lets[ref].op
        if not isinstance(op, Map) or op.function != "mul" or is_square(op):
            return [ref]
        if self.ctx.use_counts[ref] != 1:
            return [ref]
        products.append(ref)
        return [factor for part in op.arguments for factor in self._unfolded(part, products)]

    def contract(self, let: Let, out: list[Stmt]) -> None:
        """The call of the runtime: axes are letters, and a group of axes is `...`."""
        values = [self.ctx.not_none(ref) for ref in self.factors[let.name]]
        values = [self.ctx.layouts.compact(value) for value in values]
        dims = tuple(Dim(axis) for axis in let.type.axes)
        letters = self._letters([d for value in values for d in value.dims])
        terms = ",".join(self._term(value.dims, letters) for value in values)
        equation = f"{terms}->{self._term(dims, letters)}"
        tensors = [self.ctx.tensor(v.expr) if v.number else v.expr for v in values]
        expr = call("runtime.contracted", Literal(equation), *tensors)
        self.ctx.bind(let, expr, dims, out, "total")

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
