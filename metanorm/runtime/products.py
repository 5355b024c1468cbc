"""Products of matrices, in the precision of their factors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import is_transformed, must_decompose


def matmul(
    *factors: Tensor | Multiplier,
    plus: Tensor | None = None,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    """`beta * plus + alpha * product` of matrices, multiplied from left to right.

    The matrices may be equally many in stacks, `[*, N, M]`; one of two factors may be a vector.
    Without `plus` nothing is added. Autocast never makes this a product in half precision.
    """
    first = factors[0]
    like = first.matrix if isinstance(first, Multiplier) else first
    with without_autocast(like):
        return _matmul(factors, plus, beta, alpha)


def _matmul(
    factors: Sequence[Tensor | Multiplier], plus: Tensor | None, beta: float, alpha: float
) -> Tensor:
    matrices = [factor for factor in factors if isinstance(factor, Tensor)]
    if len(matrices) < len(factors):
        return _added(_multiplied(*factors), plus, beta, alpha)
    matrices, plus = in_one_dtype(matrices, plus)
    dims = matrices[0].dim(), matrices[-1].dim()
    if min(dims) < 2:
        return _added(matrices[0] @ matrices[1], plus, beta, alpha)
    return (_chain if max(dims) < 4 else _chain_of_stacks)(matrices, plus, beta, alpha)


def in_one_dtype(factors: list[Tensor], plus: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
    """Factors and what is added in the dtype that all of them can be converted to."""
    dtype = factors[0].dtype
    if any(f.dtype != dtype for f in factors) or (plus is not None and plus.dtype != dtype):
        every = factors if plus is None else [*factors, plus]
        dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in every))
        return [f.to(dtype) for f in factors], None if plus is None else plus.to(dtype)
    return factors, plus


def _chain(matrices: list[Tensor], plus: Tensor | None, beta: float, alpha: float) -> Tensor:
    product = matrices[0]
    for matrix in matrices[1:-1]:
        product = multiplied(product, matrix)
    return multiplied(product, matrices[-1], plus, beta, alpha)


def _chain_of_stacks(
    matrices: list[Tensor], plus: Tensor | None, beta: float, alpha: float
) -> Tensor:
    """The same for stacks in several dimensions, of which `bmm` takes one."""
    *stack, rows, _ = matrices[0].shape
    columns, count = matrices[-1].shape[-1], math.prod(stack)
    flat = {id(m): m.reshape(count, *m.shape[-2:]) for m in matrices}  # once for each tensor
    matrices = [flat[id(m)] for m in matrices]
    if plus is not None:
        plus = plus.reshape((1,) * (len(stack) + 2 - plus.dim()) + plus.shape)
        plus = plus.expand(*stack, *plus.shape[-2:]).reshape(count, *plus.shape[-2:])
    return _chain(matrices, plus, beta, alpha).reshape(*stack, rows, columns)


def multiplied(
    left: Tensor, right: Tensor, plus: Tensor | None = None, beta: float = 1, alpha: float = 1
) -> Tensor:
    """The same for two matrices, or two stacks in one dimension."""
    single = left.dim() == 2
    if plus is None or alpha == 0 or beta == 0:  # by which torch would multiply a NaN to zero
        product = torch.mm(left, right) if single else torch.bmm(left, right)
        return _added(product, plus, beta, alpha)
    add = torch.addmm if single else torch.baddbmm
    return add(plus, left, right, beta=beta, alpha=alpha)


def shifted(matrix: Tensor, x: Tensor, shift: Tensor) -> Tensor:
    """`matrix @ x + shift` with one number for each row of the product.

    `baddbmm` would write these numbers to the whole of the result first.
    """
    if must_decompose(x) or is_transformed():
        return multiplied(matrix, x) + shift
    return multiplied(matrix, x).add_(shift)


def _added(product: Tensor, plus: Tensor | None, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else product * alpha
    if plus is None:
        return product
    return torch.add(product, plus, alpha=beta)


# ---- the same tensor twice


def gram(x: Tensor) -> Tensor:
    """`x @ x.mT` of a matrix, or of a stack in one dimension. Its gradient is one product."""
    if must_decompose(x) or is_transformed():
        return x @ x.mT
    product: Tensor = _Gram.apply(x)  # type: ignore[no-untyped-call]
    return product


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return multiplied(x, x.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = saved(ctx), gradients
        with without_autocast(x):
            return multiplied(gradient + gradient.mT, x)


# ---- the same matrix in each step of a loop


class Multiplier:
    """A matrix that is multiplied by `times` vectors, one after the other, as in a loop.

    The gradient of the matrix is a sum of products of two vectors, one for each step. This collects
    the vectors, so that the sum is one product of matrices.
    """

    def __init__(self, matrix: Tensor, times: int) -> None:
        self.matrix = matrix
        self._slots: Sequence[Tensor] = ()
        is_plain = not (must_decompose(matrix) or is_transformed())
        if is_plain and matrix.requires_grad and torch.is_grad_enabled():
            self._slots = _Slots.apply(matrix, times).unbind()  # type: ignore[no-untyped-call]
        self._used = 0

    def next_slot(self) -> Tensor | None:
        """Where the two vectors of the next product go; `None` where nothing is collected."""
        if not self._slots:
            return None
        self._used += 1
        return self._slots[self._used - 1]


def _multiplied(left: Tensor | Multiplier, right: Tensor | Multiplier) -> Tensor:
    """The product of a multiplier and a vector, in either order."""
    multiplier = left if isinstance(left, Multiplier) else right
    assert isinstance(multiplier, Multiplier)
    matrix, slot = multiplier.matrix, multiplier.next_slot()
    if isinstance(right, Tensor):
        vector, from_left = right.to(matrix.dtype), True
    else:
        assert isinstance(left, Tensor)
        vector, from_left = left.to(matrix.dtype), False
    if slot is None:
        return matrix @ vector if from_left else vector @ matrix
    product: Tensor = _Times.apply(matrix, slot, vector, from_left)  # type: ignore[no-untyped-call]
    return product


class _Slots(torch.autograd.Function):
    """A row for each product, into which its gradient goes: those of the result and the vector."""

    @staticmethod
    def forward(matrix: Tensor, times: int) -> Tensor:
        return matrix.new_zeros((times, sum(matrix.shape)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.rows = inputs[0].shape[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows, columns = gradients[0][:, : ctx.rows], gradients[0][:, ctx.rows :]
        with without_autocast(rows):
            return rows.mT @ columns, None


class _Times(torch.autograd.Function):
    """One product. The gradient of the matrix goes into the slot."""

    @staticmethod
    def forward(matrix: Tensor, slot: Tensor, vector: Tensor, from_left: bool) -> Tensor:
        return matrix @ vector if from_left else vector @ matrix

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        matrix, _, vector, ctx.from_left = inputs
        save(ctx, matrix, vector)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (matrix, vector), (gradient,) = saved(ctx), gradients
        with without_autocast(matrix):
            if ctx.from_left:
                return None, torch.cat((gradient, vector)), gradient @ matrix, None
            return None, torch.cat((vector, gradient)), matrix @ gradient, None


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Without autocast, on the device of a tensor.

    Nothing at all where it is off: torch.export would make a region of that.
    """
    return torch.autocast(like.device.type, enabled=False) if has_autocast(like) else nullcontext()


def has_autocast(like: Tensor) -> bool:
    """Whether autocast is on for the device of a tensor. Meta tensors have none."""
    return not like.is_meta and torch.is_autocast_enabled(like.device.type)
