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

# So many columns a product of matrices has at least, where it pays to multiply data as it lies.
LEAST = 32


def contracted(equation: str, *factors: Tensor) -> Tensor:
    """The sum of products that an `einsum` equation states, never in half precision."""
    dtype = functools.reduce(torch.promote_types, (f.dtype for f in factors))
    # Autocast would multiply in half precision, which is not enough for what scales everything.
    with without_autocast(factors[0]):
        cast = [f.to(dtype) for f in factors]
        spelled = _spelled_out(equation, [f.dim() for f in cast])
        if not torch.compiler.is_compiling():  # which finds its own way, for all lengths
            spelled, cast = _as_it_lies(spelled, cast)
        added: Tensor = torch.einsum(spelled, *cast)
    return added


def _as_it_lies(equation: str, factors: list[Tensor]) -> tuple[str, list[Tensor]]:
    """The same sum, with the other factors repeated along the first dimensions of the data.

    That is where the result begins with dimensions that the data alone has. torch would bring them
    to the end, in a copy of the data and one of the result; now it multiplies the data as it lies.
    """
    found = _leading(equation)
    if found is None:
        return equation, factors
    data, lead = factors[found.data], len(found.lead)
    shared = math.prod(data.shape[found.term.index(a)] for a in found.shared if a in found.term)
    if data.numel() < LEAST * math.prod(data.shape[:lead]) * shared:
        return equation, factors
    others = [f for number, f in enumerate(factors) if number != found.data]
    product = torch.einsum(f"{found.others}->{found.shared}", *others)
    repeated = product.expand(*data.shape[:lead], *product.shape)
    return f"{found.lead}{found.shared},{found.term}->{found.result}", [repeated, data]


class _Leading(NamedTuple):
    """Which factor is the data, its dimensions and those of the others and of the result, those
    that only the data has and the result begins with, and what the others leave to multiply it."""

    data: int
    term: str
    others: str
    result: str
    lead: str
    shared: str


@functools.lru_cache(maxsize=256)
def _leading(equation: str) -> _Leading | None:
    """What an equation has of that; `None` where no factor leads alone, or has nothing behind."""
    operands, result = equation.split("->")
    terms = operands.split(",")
    having = [number for number, term in enumerate(terms) if result[:1] in term]
    if result[:1] in ("", ".") or len(having) != 1 or len(terms) < 2:
        return None
    term = terms[having[0]]
    others = [other for number, other in enumerate(terms) if number != having[0]]
    elsewhere = {*"".join(others)}
    same = takewhile(lambda pair: pair[0] == pair[1] not in {*elsewhere, "."}, zip(term, result))
    lead = "".join(letter for letter, _ in same)
    behind = {*term} & {*result} - {*lead} - elsewhere
    if "." in elsewhere or not lead or not behind:
        return None
    shared = "".join(dict.fromkeys(a for a in "".join(others) if a in term + result))
    return _Leading(having[0], term, ",".join(others), result, lead, shared)


def _spelled_out(equation: str, dims: list[int]) -> str:
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
    """Without autocast, on the device of a tensor; there is none for tensors without numbers.

    Nothing at all where it is off: torch.export would make a region of that.
    """
    if like.is_meta or not torch.is_autocast_enabled(like.device.type):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)
