"""Types and magnitudes: kernels against double precision, from the inputs as they were rounded."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from layers import (
    F64,
    LAYERS,
    agree,
    beside,
    everything,
    kernels_counted,
    layer,
    use,
    weighted,
)  # fmt: skip
from tiers import tiered
from torch import Tensor, nn

# What one rounding of a result may cost; sums of gradients are of more numbers than one.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
every_layer = pytest.mark.parametrize("name", LAYERS)


def against_double(module: nn.Module, x: Tensor, others: dict[str, Any], tolerance: float) -> None:
    """With the dtypes that torch would have given the results."""
    actual = everything("native", module, x, others, weighted)
    wide = {n: o.double() if o.is_floating_point() else o for n, o in others.items()}
    right = everything("torch", module.double(), x.double(), wide, weighted)
    agree({n: t.to(right[n].dtype) for n, t in actual.items()}, right, tolerance, tolerance)


@every_layer
@pytest.mark.parametrize("dtype", tiered(TOLERANCE, quick=[torch.float32, torch.bfloat16]), ids=str)
def test_all_of_one_type(name: str, dtype: torch.dtype, library: ModuleType) -> None:
    module, x = layer(name, library, dtype), torch.randn(LAYERS[name][1]).to(dtype)
    against_double(module, x, beside(name, x), 3 * TOLERANCE[dtype])


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_single_parameters_beside_half_data(
    name: str, dtype: torch.dtype, library: ModuleType
) -> None:
    """As in training with mixed precision; parameters and their gradients stay in single."""
    module, x = layer(name, library, torch.float32), torch.randn(LAYERS[name][1]).to(dtype)
    others = beside(name, x)
    actual = everything("native", module, x, others, weighted)
    right = everything("torch", module, x, others, weighted)
    assert {n: t.dtype for n, t in actual.items()} == {n: t.dtype for n, t in right.items()}
    against_double(module, x, others, TOLERANCE[dtype])


def test_rounding_is_to_the_nearest(library: ModuleType) -> None:
    """Bit by bit as torch rounds: all values of half types pass through, and come back."""
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16)
    module = library.BatchNorm(1, eps=0.0, affine=False).eval()
    for dtype in (torch.bfloat16, torch.float16):
        x = bits.view(dtype)[:, None]
        for mean in (0.0, 1 / 3):
            module.running_mean.fill_(mean)
            with use("native"):
                y = module(x)
            right = (x.float() - module.running_mean).to(dtype)
            torch.testing.assert_close(y, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("BatchNorm", (1 << 8, 4, 32, 32)),
        ("BatchNorm", (1, 2, 1 << 19)),
        ("BatchNorm", (1 << 20, 1)),
        ("BatchNorm", (1 << 14, 64)),
        ("LayerNorm", (4, 1 << 18)),
    ],
)
def test_a_million_elements_far_from_zero(
    name: str, shape: tuple[int, ...], library: ModuleType
) -> None:
    """Squares of 1e4 drown what is sought, unless sums are kept with care.

    A mean near 1e4 can be wrong by half of what floats are apart there, which is 5e-4.
    """
    module, x = getattr(library, name)(shape[1]), torch.randn(shape) + 1e4
    actual = everything("native", module, x, {}, weighted)
    right = everything("torch", module.double(), x.double(), {}, weighted)
    close = torch.testing.assert_close
    close(actual["output 0"].double(), right["output 0"], rtol=1e-3, atol=1e-3)
    for buffer in ("running_mean", "running_var"):
        if buffer in actual:
            close(actual[buffer].double(), right[buffer], rtol=1e-5, atol=0)
    gap = (actual["gradient of x"].double() - right["gradient of x"]).abs().max()
    assert float(gap) < 1e-2 * float(right["gradient of x"].abs().max())


@every_layer
@pytest.mark.parametrize("size", [1e-20, 1e-10, 1e10, 1e15])
def test_magnitudes(name: str, size: float, library: ModuleType) -> None:
    """In single precision, squares of these leave its range, or nearly."""
    module, x = layer(name, library, torch.float32), torch.randn(LAYERS[name][1]) * size
    others = beside(name, x)
    y = everything("native", module, x, others, weighted)["output 0"]
    right = everything("torch", module, x, others, weighted)["output 0"]
    torch.testing.assert_close(y, right, rtol=2e-5, atol=2e-5)


@every_layer
@pytest.mark.parametrize("value", [0.0, 3.0, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16], ids=str)
def test_constants(name: str, value: float, dtype: torch.dtype, library: ModuleType) -> None:
    """The variance is zero, not the rounding error of a sum, and never below."""
    module = layer(name, library, dtype)
    x = torch.full(LAYERS[name][1], value, dtype=dtype)
    others = beside(name, x)
    actual = everything("native", module, x, others, weighted)
    assert all(bool(t.isfinite().all()) for t in actual.values())
    if name == "switch_norm":
        return  # its shares add up to one but for rounding, which the large mean multiplies
    if name == "graph_norm" and module.mean_scale is not None:
        return  # takes away a part of the mean only, so that there is a variance
    wide = {n: o.double() if o.is_floating_point() else o for n, o in others.items()}
    right = everything("torch", module.double(), x.double(), wide, weighted)
    tolerance = 3 * TOLERANCE[dtype]
    torch.testing.assert_close(
        actual["output 0"].double(), right["output 0"], rtol=tolerance, atol=tolerance
    )


@every_layer
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_stays_where_it_is(
    name: str, value: float, place: int, library: ModuleType
) -> None:
    """Not finite are the same results as under torch: nothing leaks into islands beside."""
    module, x = layer(name, library, torch.float32), torch.randn(LAYERS[name][1])
    x[place].flatten()[x[place].numel() // 2] = value
    others = beside(name, x)
    actual = everything("native", module, x, others, weighted)
    right = everything("torch", module, x, others, weighted)
    for what in ("output 0", "gradient of x"):
        assert torch.equal(actual[what].isfinite(), right[what].isfinite()), what
        where = right[what].isfinite()
        torch.testing.assert_close(actual[what][where], right[what][where], rtol=1e-4, atol=1e-4)


def test_the_rest_of_a_vector_does_not_see_what_is_beside(library: ModuleType) -> None:
    """Kernels work on several islands at once; NaN in the memory around a view is not theirs."""
    around = torch.full((8, 4, 7, 9), math.nan)
    x = around[2:5]
    x.copy_(torch.randn(3, 4, 7, 9))
    with kernels_counted() as kernels:
        for name in ("batch_norm", "group_norm", "instance_norm", "switch_norm"):
            actual = everything("native", layer(name, library, torch.float32), x, {}, weighted)
            assert all(bool(t.isfinite().all()) for t in actual.values()), name
    assert len(kernels) == 8
    assert bool(around[:2].isnan().all()) and bool(around[5:].isnan().all())
