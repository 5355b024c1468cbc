"""Pooling by given matrices, against one row after the other in float64."""

from __future__ import annotations

import pytest
import torch
from naive import F64, blur, matrix_moments
from torch import Tensor, nn

from metanorm.runtime import ShapeError, keep_matrix, pooling_rows, rows_mean, rows_var

LENGTH = 6


def apart(dtype: torch.dtype, offset: float = 1e6) -> Tensor:
    """Values in pools of two whose means are far from each other, with a spread of about one."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(LENGTH, 5, generator=generator, dtype=F64)
    return (noise + offset * torch.tensor([0, 0, 1, 1, -3, -3], dtype=F64)[:, None]).to(dtype)


PAIRS = torch.block_diag(*[torch.ones(2, 2)] * 3)
UNEVEN = torch.block_diag(*[torch.tensor([[1.0, 3.0], [2.0, 2.0]])] * 3)


@pytest.mark.parametrize("matrix", [PAIRS, UNEVEN], ids=["pairs", "uneven"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pools_that_are_far_apart_have_exact_variances(
    matrix: Tensor, offset: float, dtype: torch.dtype
) -> None:
    """As exact as x itself: E[x^2] - E[x]^2 in float32 has no correct digit at 1e6."""
    x = apart(dtype, offset)
    rows = pooling_rows(matrix, "M", x, LENGTH)
    mean, var = matrix_moments(x, matrix)
    torch.testing.assert_close(rows_mean(x, rows, 0).to(F64), mean, rtol=1e-6, atol=1e-6)
    actual, rtol = rows_var(x, rows, 0).to(F64), 1e-12 if dtype == F64 else 2e-6
    torch.testing.assert_close(actual, var, rtol=rtol, atol=rtol + blur(x))


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_any_dimension(dim: int) -> None:
    x = torch.randn(LENGTH, LENGTH, LENGTH, dtype=F64)
    matrix = torch.rand(LENGTH, LENGTH, dtype=F64)
    rows = pooling_rows(matrix, "M", x, LENGTH)
    mean, var = matrix_moments(x.movedim(dim, 0), matrix)
    torch.testing.assert_close(rows_mean(x, rows, dim).movedim(dim, 0), mean)
    torch.testing.assert_close(rows_var(x, rows, dim).movedim(dim, 0), var)


def test_values_that_are_not_contiguous() -> None:
    whole = torch.randn(4, 2 * LENGTH, 3, dtype=F64)
    x = whole[:, ::2].transpose(0, 2)
    rows = pooling_rows(PAIRS, "M", x, LENGTH)
    for function in (rows_mean, rows_var):
        torch.testing.assert_close(function(x, rows, 1), function(x.contiguous(), rows, 1))


def test_a_single_position() -> None:
    x = torch.randn(1, 3)
    rows = pooling_rows(torch.full((1, 1), 7.0), "M", x, 1)
    torch.testing.assert_close(rows_mean(x, rows, 0), x)
    torch.testing.assert_close(rows_var(x, rows, 0), torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_position(dtype: torch.dtype) -> None:
    x = torch.randn(0, 3, dtype=dtype)
    rows = pooling_rows(torch.zeros(0, 0), "M", x, 0)
    assert rows_mean(x, rows, 0).shape == rows_var(x, rows, 0).shape == (0, 3)


def test_a_row_of_zeros_pools_nothing() -> None:
    x = apart(F64)
    matrix = PAIRS.clone()
    matrix[2] = 0
    rows = pooling_rows(matrix, "M", x, LENGTH)
    assert rows is not None
    assert rows[2].tolist() == [0] * LENGTH
    assert rows_mean(x, rows, 0)[2].tolist() == rows_var(x, rows, 0)[2].tolist() == [0] * 5


def test_the_identity_is_nothing_to_do() -> None:
    x = torch.randn(LENGTH, 2)
    assert pooling_rows("eye", "M", x, LENGTH) is None
    assert rows_mean(x, None, 0) is x
    assert rows_var(x, None, 0).eq(0).all()


STRUCTURED = {
    "ones": [0, 0, 0, 0, 0, 0],
    "blocks(2)": [0, 0, 0, 1, 1, 1],
    "blocks(3)": [0, 0, 1, 1, 2, 2],
    "chunks(2)": [0, 0, 1, 1, 2, 2],
    "chunks(3)": [0, 0, 0, 1, 1, 1],
    "interleave(2)": [0, 1, 0, 1, 0, 1],
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_named_matrices(name: str) -> None:
    cell = torch.tensor(STRUCTURED[name])
    same = (cell[:, None] == cell[None, :]).double()
    actual = pooling_rows(name, "M", torch.zeros(1, dtype=F64), LENGTH)
    torch.testing.assert_close(actual, same / same.sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["blocks(4)", "chunks(4)", "interleave(5)", "blocks(0)"])
def test_named_matrices_that_do_not_fit(name: str) -> None:
    with pytest.raises(ShapeError, match=r"M = .* 6 positions"):
        pooling_rows(name, "M", torch.zeros(1), LENGTH)


def test_a_matrix_of_another_length_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="M is 3 x 3, but its axis has 6"):
        pooling_rows(torch.eye(3), "M", torch.zeros(1), LENGTH)


@pytest.mark.parametrize("function", [rows_mean, rows_var])
def test_gradients(function: object) -> None:
    assert callable(function)
    x = torch.randn(4, 3, dtype=F64, requires_grad=True)
    matrix = torch.rand(4, 4, dtype=F64, requires_grad=True)

    def run(x: Tensor, matrix: Tensor) -> Tensor:
        return function(x, pooling_rows(matrix, "M", x, 4), 0)

    assert torch.autograd.gradcheck(run, (x, matrix))
    assert torch.autograd.gradgradcheck(run, (x, matrix))


def test_gradients_in_float32_are_those_of_float64() -> None:
    """The variance is taken in another way there."""
    weights = torch.randn(LENGTH, 5, dtype=F64)
    results = []
    for dtype in (torch.float32, F64):
        x = apart(torch.float32, 1e3).to(dtype).requires_grad_()
        matrix = UNEVEN.clone().to(dtype).requires_grad_()
        rows = pooling_rows(matrix, "M", x, LENGTH)
        (rows_var(x, rows, 0) * weights.to(dtype)).sum().backward()
        results.append((x.grad, matrix.grad))
    for derivative, right in zip(*results):
        assert derivative is not None and right is not None
        scale = float(right.abs().max())
        torch.testing.assert_close(derivative.to(F64), right, rtol=1e-4, atol=1e-5 * scale)


def test_statistics_are_not_halved_by_autocast() -> None:
    x = torch.randn(LENGTH, 5)
    rows = pooling_rows(UNEVEN, "M", x, LENGTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, var = rows_mean(x, rows, 0), rows_var(x, rows, 0)
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(mean, rows_mean(x, rows, 0), rtol=0, atol=0)
    torch.testing.assert_close(var, rows_var(x, rows, 0), rtol=0, atol=0)


def test_a_kept_matrix_moves_with_its_module_but_is_no_state() -> None:
    module = nn.Module()
    keep_matrix(module, "U", [[1, 2], [3, 4]])
    keep_matrix(module, "V", "blocks( 2 )")
    assert module.V == "blocks(2)"
    assert module.double().U.dtype == F64
    assert not module.state_dict()


@pytest.mark.parametrize(
    "matrix", [torch.zeros(2, 3), torch.zeros(2), [[1.0, 2.0, 3.0]], "diag", "blocks(x)", "blocks"]
)
def test_what_is_no_matrix(matrix: Tensor | str) -> None:
    with pytest.raises(ValueError, match="U"):
        keep_matrix(nn.Module(), "U", matrix)
