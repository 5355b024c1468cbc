"""Products of matrices against torch's own, and the gradient of a matrix that a loop multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metanorm import runtime

F64 = torch.float64


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = (torch.randn(s, generator=generator, dtype=F64) for s in shapes)
    return [t.requires_grad_() for t in made]


STACKS = ((), (5,), (2, 3), (2, 0, 3))


@pytest.mark.parametrize("stack", STACKS)
def test_chains(stack: tuple[int, ...]) -> None:
    a, b, plus = tensors((*stack, 3, 4), (*stack, 4, 3), (3, 3))
    actual = runtime.matmul(a, b, a, b, plus=plus, beta=1.5, alpha=-0.5)
    wanted = 1.5 * plus - 0.5 * (a @ b @ a @ b)
    torch.testing.assert_close(actual, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(actual.square().sum(), (a, b, plus)),
        torch.autograd.grad(wanted.square().sum(), (a, b, plus)),
    )
    torch.testing.assert_close(runtime.matmul(a, b), a @ b)
    torch.testing.assert_close(runtime.matmul(a, b, alpha=3), 3 * (a @ b))


@pytest.mark.parametrize("stack", STACKS)
def test_zero_times_nan_is_nan(stack: tuple[int, ...]) -> None:
    """torch leaves out what `beta` or `alpha` multiplies by zero."""
    a, b, plus = (t.detach() for t in tensors((*stack, 3, 4), (*stack, 4, 3), (3, 3)))
    nowhere = torch.full_like(plus, torch.nan)
    assert runtime.matmul(a * torch.nan, b, plus=plus, alpha=0).isnan().all()
    assert runtime.matmul(a, b, plus=nowhere, beta=0).isnan().all()


def test_vectors() -> None:
    matrix, row, column = tensors((3, 4), (3,), (4,))
    torch.testing.assert_close(runtime.matmul(matrix, column), matrix @ column)
    torch.testing.assert_close(runtime.matmul(row, matrix, plus=column), row @ matrix + column)


def test_never_in_half_precision() -> None:
    a, b = (t.detach().float() for t in tensors((3, 4), (4, 2)))
    multiplier = runtime.Multiplier(a, 2)
    product, of_vector = runtime.matmul(a, b), runtime.matmul(multiplier, b[:, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(runtime.matmul(a, b), product)
        assert torch.equal(runtime.matmul(multiplier, b[:, 0]), of_vector)
    torch.testing.assert_close(runtime.matmul(a, b.to(F64)), a.to(F64) @ b.to(F64))


def test_what_is_added_may_be_of_another_dtype() -> None:
    a, b, plus = (t.detach() for t in tensors((3, 4), (4, 2), (2,)))
    for narrow in (plus.bfloat16(), plus.float()):
        wanted = a @ b + narrow
        torch.testing.assert_close(runtime.matmul(a, b, plus=narrow), wanted)
        torch.testing.assert_close(runtime.contracted("ab,bc->ac", a, b, plus=narrow), wanted)
    assert runtime.matmul(a.float(), b.float(), plus=plus).dtype == F64


def balanced(matrix: Tensor, steps: int, multiplier: bool) -> Tensor:
    """Sinkhorn's iteration, which multiplies a matrix from both sides."""
    kept = runtime.Multiplier(matrix, 2 * steps) if multiplier else matrix
    columns = matrix.new_ones(matrix.shape[1])
    for _ in range(steps):
        rows = 1 / runtime.matmul(kept, columns)
        columns = 1 / runtime.matmul(rows, kept)
    return rows[:, None] * matrix * columns


def test_a_multiplier_is_the_matrix_in_each_product() -> None:
    (x,) = tensors((4, 5))
    for steps in (1, 3):
        torch.testing.assert_close(
            balanced(x.exp(), steps, multiplier=True), balanced(x.exp(), steps, multiplier=False)
        )
        assert torch.autograd.gradcheck(lambda x, n=steps: balanced(x.exp(), n, True), (x,))


def test_a_multiplier_has_second_derivatives() -> None:
    (x,) = tensors((3, 3))
    assert torch.autograd.gradgradcheck(lambda x: balanced(x.exp(), 2, True), (x,))


def test_a_multiplier_in_several_backward_passes() -> None:
    """One for each output alone, which reads a part of the products, and one for all."""
    matrix, vector = tensors((3, 3), (3,))
    gradients = []
    for multiplier in (runtime.Multiplier(matrix, 2), matrix):
        first = runtime.matmul(multiplier, vector)
        second = runtime.matmul(multiplier, first)
        for output in (first, second, first + second):
            by_both = torch.autograd.grad(output.sum(), (matrix, vector), retain_graph=True)
            by_vector = torch.autograd.grad(output.sum(), vector, retain_graph=True)
            gradients.append((*by_both, *by_vector))
    torch.testing.assert_close(gradients[:3], gradients[3:])


def test_a_multiplier_under_transforms() -> None:
    (x,) = tensors((4, 3, 3))
    rows = torch.vmap(lambda one: balanced(one.exp(), 2, True))(x.detach())
    torch.testing.assert_close(rows, torch.stack([balanced(one.exp(), 2, False) for one in x]))
    by_func = torch.func.grad(lambda one: balanced(one.exp(), 2, True).square().sum())(
        x[0].detach()
    )
    wanted = torch.autograd.grad(balanced(x[0].exp(), 2, False).square().sum(), x)[0][0]
    torch.testing.assert_close(by_func, wanted)


def test_a_product_too_many_is_refused() -> None:
    matrix, vector = tensors((3, 3), (3,))
    multiplier = runtime.Multiplier(matrix, 1)
    runtime.matmul(multiplier, vector)
    with pytest.raises(IndexError):
        runtime.matmul(multiplier, vector)
