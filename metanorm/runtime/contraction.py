"""Sums of products over dimensions."""

from __future__ import annotations

import functools
import math
from itertools import takewhile
from string import ascii_letters
from typing import NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.products import gram, in_one_dtype, multiplied, shifted, without_autocast

# Columns of a matrix product from which on it is faster to multiply the data without a copy.
MIN_COLUMNS = 32


def contracted(
    equation: str,
    *factors: Tensor,
    plus: Tensor | None = None,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    """`beta * plus + alpha * product`, with the sum of products that an `einsum` equation states.

    Without `plus` nothing is added; it broadcasts against the product. Autocast never makes this a
    product in half precision.
    """
    # Autocast would multiply in half precision, which is not enough for what scales everything.
    with without_autocast(factors[0]):
        cast, plus = in_one_dtype(list(factors), plus)
        if torch.compiler.is_compiling():  # which finds its own way, for all lengths
            product = torch.einsum(_without_ellipsis(equation, [f.dim() for f in cast]), *cast)
        else:
            equation, cast = _without_copies(equation, cast)
            matrices = _matrices(equation) if len(cast) == 2 else None
            if matrices is not None and matrices.fit(cast):
                return _of_matrices(matrices, cast, plus, beta, alpha)
            product = torch.einsum(_without_ellipsis(equation, [f.dim() for f in cast]), *cast)
        product = product if alpha == 1 else product * alpha
        return product if plus is None else torch.add(product, plus, alpha=beta)


# ---- two factors that are matrices as they lie


class _Matrices(NamedTuple):
    """Two factors as stacks of matrices: how many terms of each lead, which are rows and columns.

    `...` counts as one term. The factors stand in the order in which the product is the result.
    """

    swapped: bool
    terms: tuple[tuple[str, ...], tuple[str, ...]]
    lead: tuple[str, ...]
    rows: tuple[str, ...]
    inner: tuple[str, ...]
    columns: tuple[str, ...]

    def fit(self, factors: list[Tensor]) -> bool:
        """Whether `...` stands for equally many dimensions in both, and lengths are equal."""
        ordered = factors[::-1] if self.swapped else factors
        sizes = [_sizes(term, factor) for term, factor in zip(self.terms, ordered)]
        shared = (*self.lead, *self.inner)
        return all(sizes[0][letter] == sizes[1][letter] for letter in shared)


def _sizes(term: tuple[str, ...], factor: Tensor) -> dict[str, tuple[int, ...]]:
    """The lengths that each letter of a term stands for."""
    several = factor.dim() - len(term) + 1
    sizes, start = {}, 0
    for letter in term:
        count = several if letter == "..." else 1
        sizes[letter] = tuple(factor.shape[start : start + count])
        start += count
    return sizes


@functools.lru_cache(maxsize=256)
def _matrices(equation: str) -> _Matrices | None:
    """The factors of an equation as matrices; `None` where they would have to be copied."""
    operands, result = equation.split("->")
    first, second = (_letters(term) for term in operands.split(","))
    wanted = _letters(result)
    for swapped, (left, right) in enumerate(((first, second), (second, first))):
        lead = tuple(a for a in wanted if a in left and a in right)
        rows = tuple(a for a in wanted if a in left and a not in right)
        columns = tuple(a for a in wanted if a in right and a not in left)
        inner = tuple(a for a in left if a in right and a not in wanted)
        whole = set(left) | set(right) == {*lead, *rows, *columns, *inner}
        lies = left in ((*lead, *rows, *inner), (*lead, *inner, *rows))
        lies = lies and right in ((*lead, *inner, *columns), (*lead, *columns, *inner))
        if whole and lies and rows and columns and inner and wanted == (*lead, *rows, *columns):
            return _Matrices(bool(swapped), (left, right), lead, rows, inner, columns)
    return None


def _letters(term: str) -> tuple[str, ...]:
    return tuple("..." if letter == "." else letter for letter in term.replace("...", "."))


def _of_matrices(
    matrices: _Matrices, factors: list[Tensor], plus: Tensor | None, beta: float, alpha: float
) -> Tensor:
    """The product as one call of the linear algebra library, on views of the factors."""
    left, right = factors[::-1] if matrices.swapped else factors
    sizes = {**_sizes(matrices.terms[0], left), **_sizes(matrices.terms[1], right)}
    lead, rows, inner, columns = (
        tuple(length for letter in letters for length in sizes[letter])
        for letters in (matrices.lead, matrices.rows, matrices.inner, matrices.columns)
    )
    stack = (math.prod(lead),) if matrices.lead else ()
    n, k, m = math.prod(rows), math.prod(inner), math.prod(columns)
    is_turned = matrices.terms[0] != (*matrices.lead, *matrices.rows, *matrices.inner)
    is_upright = matrices.terms[1] == (*matrices.lead, *matrices.inner, *matrices.columns)
    a = left.reshape(*stack, k, n).mT if is_turned else left.reshape(*stack, n, k)
    if left is right and is_turned == is_upright and plus is None and alpha == 1:
        return gram(a).reshape(lead + rows + columns)
    b = right.reshape(*stack, k, m) if is_upright else right.reshape(*stack, m, k).mT
    if plus is not None:
        plus = _as_matrices(plus, lead, rows, columns)
        if plus.shape[-1] == 1 and beta == 1 and alpha == 1:
            return shifted(a, b, plus).reshape(lead + rows + columns)
    return multiplied(a, b, plus, beta, alpha).reshape(lead + rows + columns)


def _as_matrices(
    plus: Tensor, lead: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...]
) -> Tensor:
    """What is added to matrices, as matrices of as many rows and columns, or of one."""
    dims = len(lead) + len(rows) + len(columns)
    plus = plus.reshape((1,) * (dims - plus.dim()) + plus.shape)
    shape: list[int] = list(lead)
    flat = [math.prod(lead)] if lead else []
    start = len(lead)
    for lengths in (rows, columns):
        own_lengths = plus.shape[start : start + len(lengths)]
        kept = own_lengths if all(length == 1 for length in own_lengths) else lengths
        shape += kept
        flat.append(math.prod(kept))
        start += len(lengths)
    return plus.expand(shape).reshape(flat)


# ---- data as it lies


def _without_copies(equation: str, factors: list[Tensor]) -> tuple[str, list[Tensor]]:
    """The same sum, with the other factors expanded along the leading dimensions of the data.

    This is done if the result begins with dimensions that only the data has. torch would move them
    to the end, with a copy of the data and one of the result.
    """
    roles = _data_factor(equation)
    if roles is None:
        return equation, factors
    data, lead = factors[roles.data], len(roles.lead)
    shared = math.prod(_length(data, roles.term, a) for a in roles.shared if a in roles.term)
    if data.numel() < MIN_COLUMNS * math.prod(data.shape[:lead]) * shared:
        return equation, factors
    others = [factor for number, factor in enumerate(factors) if number != roles.data]
    weights = torch.einsum(f"{roles.others}->{roles.shared}", *others)
    repeated = weights.expand(*data.shape[:lead], *weights.shape)
    return f"{roles.lead}{roles.shared},{roles.term}->{roles.result}", [repeated, data]


def _length(factor: Tensor, term: str, letter: str) -> int:
    """The length of a dimension; behind `...` they are counted from the end."""
    place = term.index(letter)
    return factor.shape[place - len(term) if "." in term[:place] else place]


class _DataFactor(NamedTuple):
    """The factor of an equation that is the data, and the letters of dimensions."""

    data: int  # the number of the factor
    term: str  # letters of the data
    others: str  # terms of the other factors
    result: str  # letters of the result
    lead: str  # letters that only the data has, and with which the result begins
    shared: str  # letters of the product of the other factors


@functools.lru_cache(maxsize=256)
def _data_factor(equation: str) -> _DataFactor | None:
    """The data of an equation; `None` if no factor leads alone, or it has no inner dimensions."""
    operands, result = equation.split("->")
    terms = operands.split(",")
    numbers = [number for number, term in enumerate(terms) if result[:1] in term]
    if result[:1] in ("", ".") or len(numbers) != 1 or len(terms) < 2:
        return None
    term = terms[numbers[0]]
    others = [other for number, other in enumerate(terms) if number != numbers[0]]
    other_letters = {*"".join(others)}
    common = takewhile(
        lambda pair: pair[0] == pair[1] not in {*other_letters, "."}, zip(term, result)
    )
    lead = "".join(letter for letter, _ in common)
    inner = {*term} & {*result} - {*lead} - other_letters
    if "." in other_letters or not lead or not inner:
        return None
    shared = "".join(dict.fromkeys(a for a in "".join(others) if a in term + result))
    return _DataFactor(numbers[0], term, ",".join(others), result, lead, shared)


def _without_ellipsis(equation: str, dims: list[int]) -> str:
    """The equation with a letter for each dimension that `...` stands for, where these are summed.

    ONNX takes no `...` that the result lacks.
    """
    operands, result = equation.split("->")
    if "..." in result or "..." not in operands:
        return equation
    unused = [letter for letter in ascii_letters if letter not in equation]
    terms = operands.split(",")
    counts = [dim - len(t.replace("...", "")) if "..." in t else 0 for t, dim in zip(terms, dims)]
    # Letters in the order of the alphabet, in which einsum sums: in another it would copy.
    letters = "".join(unused[: max(counts)])
    spelled = [
        term.replace("...", letters[len(letters) - count :])  # aligned at the end
        for term, count in zip(terms, counts)
    ]
    return f"{','.join(spelled)}->{result}"
