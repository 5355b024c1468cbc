"""Norms by given matrices: whatever a matrix looks like, kernels do what the torch target does."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, outputs, use, weighted
from torch import Tensor, nn

import metanorm
from metanorm.runtime import Given, ShapeError

N, C = 4, 6


def full(n: int) -> Tensor:
    return torch.rand(n, n) + 0.1


def zero_rows(n: int) -> Tensor:
    rows = full(n)
    rows[::2] = 0
    return rows


def zero_columns(n: int) -> Tensor:
    return zero_rows(n).mT.contiguous()


MATRICES: dict[str, tuple[Given, Given]] = {
    "names": ("eye", "eye"),
    "ones": ("ones", "ones"),
    "blocks": ("blocks(2)", "chunks(2)"),
    "interleaved": ("chunks(2)", "interleave(3)"),
    "one of each": ("eye", full(C)),
    "not symmetric": (full(N), full(C)),
    "triangular": (full(N).tril(), full(C).triu(1)),
    "bands": (full(N).tril(1).triu(-1), full(C).tril(2).triu(1)),
    "a permutation": (torch.eye(N)[[2, 0, 3, 1]], torch.eye(C).flip(0)),
    "rows of zeros": (zero_rows(N), zero_rows(C)),
    "columns of zeros": (zero_columns(N), zero_columns(C)),
    "nothing": (torch.zeros(N, N), full(C)),
    "lists": ([[1, 0, 0, 1]] * N, [[0, 1, 2, 3, 4, 5]] * C),
    "transposed in memory": (full(N).mT, full(C).mT),
    "of doubles": (full(N).double(), full(C).double()),
    "of halves": (full(N).bfloat16(), full(C).half()),
}
every_matrix = pytest.mark.parametrize("what", MATRICES)
both_norms = pytest.mark.parametrize("name", ["MetaNorm", "MetaNormWithin"])


def norm(name: str, what: str, library: ModuleType) -> nn.Module:
    module: nn.Module = getattr(library, name)(C, *MATRICES[what], eps=0.1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module


@every_matrix
@both_norms
def test_matrices(name: str, what: str, library: ModuleType) -> None:
    module, x = norm(name, what, library).double(), torch.randn(N, C, 5, 3, dtype=F64)
    actual = everything("native", module, x, {}, weighted)
    agree(actual, everything("torch", module, x, {}, weighted))


@every_matrix
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_types_beside_each_other(what: str, dtype: torch.dtype, library: ModuleType) -> None:
    """Data, parameters and matrices need not be of one type."""
    module, x = norm("MetaNorm", what, library), torch.randn(N, C, 5).to(dtype)
    actual = everything("native", module, x, {}, weighted)
    right = everything("torch", module, x, {}, weighted)
    assert {n: t.dtype for n, t in actual.items()} == {n: t.dtype for n, t in right.items()}
    tolerance = 2e-5 if dtype == torch.float32 else 4e-2
    agree(actual, right, tolerance, tolerance)


@pytest.mark.parametrize("shape", [(N, C), (N, C, 1), (1, C, 9), (N, 1, 3), (1, 1, 4)], ids=str)
def test_axes_of_length_one(shape: tuple[int, ...], library: ModuleType) -> None:
    module = library.MetaNorm(shape[1], full(shape[0]), full(shape[1])).double()
    x = torch.randn(shape, dtype=F64)
    agree(
        everything("native", module, x, {}, weighted),
        everything("torch", module, x, {}, weighted),
        1e-8,
        1e-8,
    )


def test_far_from_zero_and_apart(library: ModuleType) -> None:
    """Pools with means far from each other have small variances all the same."""
    module = library.MetaNorm(C, V="blocks(3)")
    x = torch.randn(N, C, 50) + 1e4 * torch.arange(C)[:, None].div(2, rounding_mode="floor")
    actual = everything("native", module, x, {}, weighted)
    other = everything("torch", module, x, {}, weighted)
    right = everything("torch", module.double(), x.double(), {}, weighted)
    for what in ("output 0", "gradient of x"):
        ours, theirs = (
            float((t[what].double() - right[what]).abs().max()) for t in (actual, other)
        )
        assert ours < 2 * theirs < 0.05 * float(right[what].abs().max())


def test_what_counts_nothing_may_be_anything(library: ModuleType) -> None:
    """A NaN in a sample reaches those samples alone that it counts for."""
    counts = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
    module, x = library.MetaNorm(C, counts), torch.randn(N, C, 5)
    x[0, 0, 0] = torch.nan
    with use("native"):
        y = module(x)
    assert y.isfinite().all(-1).all(-1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_products_are_shared_by_threads(threads: int, library: ModuleType) -> None:
    before = torch.get_num_threads()
    module, x = library.MetaNorm(70, full(20), full(70)).double(), torch.randn(20, 70, 3, dtype=F64)
    right = everything("torch", module, x, {}, weighted)
    try:
        torch.set_num_threads(threads)
        actual = everything("native", module, x, {}, weighted)
        again = everything("native", module, x, {}, weighted)
    finally:
        torch.set_num_threads(before)
    agree(actual, right)
    assert all(torch.equal(again[n], t) for n, t in actual.items())


LEARNED = """norm Learned(eps = 0.1) {
  input  x[N, C = num_channels, *S], similarity: matrix[N, N]
  param  mixing[C, C] = 0.25
  reduce N: similarity, C: mixing, *S
}
"""


@pytest.fixture(scope="module")
def learned() -> ModuleType:
    return metanorm.loads(LEARNED)


def test_gradients_of_matrices(learned: ModuleType) -> None:
    """Against finite differences: of one that is an input, and of one that is learned."""
    module = learned.Learned(3).double()
    with torch.no_grad():
        module.mixing.copy_(torch.tensor([[1, 2, 0.5], [0, 0, 3], [1, 1, 1]]))
    x = torch.randn(2, 3, 2, dtype=F64)
    similarity = torch.tensor([[2.0, 1], [0.5, 3]], dtype=F64)

    def run(x: Tensor, similarity: Tensor, mixing: Tensor) -> tuple[Tensor, ...]:
        module._parameters["mixing"] = mixing  # type: ignore[assignment]
        return outputs(module(x, similarity))

    mixing = module.mixing.detach()
    leaves = tuple(t.clone().requires_grad_() for t in (x, similarity, mixing))
    with use("native"), kernels_counted() as kernels:
        assert torch.autograd.gradcheck(run, leaves)
        assert torch.autograd.gradgradcheck(run, leaves)
    assert kernels


@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
def test_rows_of_zeros_have_no_gradient(dtype: torch.dtype, learned: ModuleType) -> None:
    module, similarity = learned.Learned(C).to(dtype), zero_rows(N).to(dtype)
    with torch.no_grad():
        module.mixing.copy_(zero_rows(C))
    x = torch.randn(N, C, 5, dtype=dtype)
    actual, right = (
        everything(target, module, x, {"similarity": similarity}, weighted)
        for target in ("native", "torch")
    )
    tolerance = 1e-9 if dtype == F64 else 1e-4
    agree(actual, right, tolerance, tolerance)
    for name in ("gradient of similarity", "gradient of mixing"):
        assert bool((actual[name][::2] == 0).all()) and bool(actual[name].isfinite().all())


def test_matrices_that_do_not_fit(library: ModuleType, learned: ModuleType) -> None:
    """They are refused as without kernels, with the same words."""
    x = torch.randn(N, C, 5)
    for matrix, said in ((full(3), "U is 3 x 3, but its axis has 4"), ("blocks(3)", "4 positions")):
        with pytest.raises(ShapeError, match=said):
            library.MetaNorm(C, matrix)(x)
    with pytest.raises(ShapeError, match="similarity"):
        learned.Learned(C)(x, torch.rand(N, N + 1))
    function = learned.learned
    for wrong in (torch.rand(N, N + 1), torch.rand(N + 1, N), torch.rand(N + 1, N + 1)):
        with use("native"), pytest.raises(RuntimeError, match="cannot run natively"):
            function(x, wrong, torch.rand(C, C), 0.1)


def test_a_matrix_with_a_gradient_that_the_constructor_was_given(library: ModuleType) -> None:
    """No parameter and no input: kernels do not give its gradient, so that torch does."""
    matrix = full(N).requires_grad_()
    module, x = library.MetaNorm(C, matrix), torch.randn(N, C, 5)
    with kernels_counted() as kernels:
        module(x).pow(3).sum().backward()
    assert not kernels and matrix.grad is not None and bool((matrix.grad != 0).all())


def test_double_backward_by_names(library: ModuleType) -> None:
    module = library.MetaNorm(2, "ones", "eye", eps=0.1).double()
    x = torch.randn(3, 2, 2, dtype=F64, requires_grad=True)
    with use("native"):
        assert torch.autograd.gradgradcheck(module, x)
