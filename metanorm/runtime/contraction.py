"""Sums of products over dimensions."""

from __future__ import annotations

import functools
import math
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from string import ascii_letters
from typing import NamedTuple

import torch
from torch import Tensor

# Columns of a matrix product from which on it is faster to multiply the data without a copy.
MIN_COLUMNS = 32


def contracted(equation: str, *factors: Tensor) -> Tensor:
    """The sum of products that an `einsum` equation states, never in half precision."""
    dtype = functools.reduce(torch.promote_types, (f.dtype for f in factors))
    # Autocast would multiply in half precision, which is not enough for what scales everything.
    with without_autocast(factors[0]):
        cast = [f.to(dtype) for f in factors]
        spelled_equation = _without_ellipsis(equation, [f.dim() for f in cast])
        if not torch.compiler.is_compiling():  # which finds its own way, for all lengths
            spelled_equation, cast = _without_copies(spelled_equation, cast)
        total: Tensor = torch.einsum(spelled_equation, *cast)
    return total


def _without_copies(equation: str, factors: list[Tensor]) -> tuple[str, list[Tensor]]:
    """The same sum, with the other factors expanded along the leading dimensions of the data.

    This is done if the result begins with dimensions that only the data has. torch would move them
    to the end, with a copy of the data and one of the result.
    """
    roles = _data_factor(equation)
    if roles is None:
        return equation, factors
    data, lead = factors[roles.data], len(roles.lead)
    shared = math.prod(data.shape[roles.term.index(a)] for a in roles.shared if a in roles.term)
    if data.numel() < MIN_COLUMNS * math.prod(data.shape[:lead]) * shared:
        return equation, factors
    others = [factor for number, factor in enumerate(factors) if number != roles.data]
    weights = torch.einsum(f"{roles.others}->{roles.shared}", *others)
    repeated = weights.expand(*data.shape[:lead], *weights.shape)
    return f"{roles.lead}{roles.shared},{roles.term}->{roles.result}", [repeated, data]


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


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """A context without autocast, for the device of a tensor; `meta` has no autocast.

    It does nothing if autocast is off: torch.export would make a region of it.
    """
    if like.is_meta or not torch.is_autocast_enabled(like.device.type):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)
