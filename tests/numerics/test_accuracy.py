"""Where float32 runs out: many elements, far from zero, large, in half precision."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from metanorm import runtime

F64 = torch.float64


def relative(actual: Tensor, expected: Tensor) -> float:
    return float(((actual - expected) / expected).abs().max())


@pytest.mark.parametrize("shape, dims", [((1, 1 << 24), (1,)), ((1 << 24, 1), (0,))])
def test_many_squares_are_added_up_with_care(shape: tuple[int, ...], dims: tuple[int]) -> None:
    x = torch.full(shape, 1.1)
    assert relative(runtime.mean_square(x, dims), x.double().square().mean(dims)) < 1e-6
    assert relative(runtime.norm(x, 2, dims), x.double().square().sum(dims).sqrt()) < 1e-6


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("dims", [(0, 2, 3), (1,), (2, 3)])
def test_variances_far_from_zero(mean: float, dims: tuple[int, ...]) -> None:
    x = torch.randn(16, 32, 50, 50) + mean
    right, average = torch.var_mean(x.double(), dims, correction=0)
    actual = runtime.moments(x, dims)
    assert relative(actual.var, right) < 1e-5
    assert float((actual.mean - average).abs().max()) < 3e-7 * max(1.0, mean)


def test_squares_that_overflow_only_when_they_are_added_up() -> None:
    x = torch.randn(4, 1000) * 1e18
    right = x.double().var(1, correction=0)
    assert relative(runtime.moments(x, (1,)).var, right) < 1e-5
    assert relative(runtime.mean_square(x, (1,)), x.double().square().mean(1)) < 1e-5


def test_one_group_of_many() -> None:
    index = torch.zeros(1 << 25, dtype=torch.long)
    groups = runtime.Groups(index, 1, len(index))
    x = torch.full((len(index), 1), 5.1)
    assert groups.sizes(x).tolist() == [1 << 25]
    mean, var = groups.moments(x, 0)
    assert float(mean) == pytest.approx(5.1, rel=1e-6)
    assert float(var) < 1e-9


def test_running_statistics_in_half_precision_stay_finite(library: ModuleType) -> None:
    module = library.BatchNorm(4).half()
    for _ in range(3):
        module(torch.randn(64, 4).half() * 200)
    assert bool(module.running_var.isfinite().all())


@pytest.mark.parametrize("name", ["RMSNorm", "LayerNorm", "VarianceOnlyLayerNorm"])
def test_second_derivatives_at_zero(name: str, library: ModuleType) -> None:
    module = getattr(library, name)(5).double()
    zero = torch.zeros(2, 5, dtype=F64)
    second = torch.autograd.functional.hessian(lambda x: module(x).square().sum(), zero)
    assert bool(second.isfinite().all())


BATCHED = {"BatchNorm": (3,), "LayerNorm": (4,), "GroupNorm": (3, 3), "SwitchNorm": (3,)}


@pytest.mark.parametrize("name", BATCHED)
def test_batched_gradients(name: str, library: ModuleType) -> None:
    """As `autograd.functional.jacobian(vectorize=True)` and `is_grads_batched` take them."""
    module = getattr(library, name)(*BATCHED[name]).double().eval()
    x = torch.randn(2, 3, 4, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(module, (x,))
