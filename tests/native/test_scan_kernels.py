"""Scans: windows and pasts of cells against dense matrices in plain torch, on kernels."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from dense_scans import F64, POOLS, WEIGHTS, inputs, near_text, right
from layers import (
    channels_last,
    everything,
    kernels_counted,
    strided,
    transposed,
    use,
    weighted,
)

import metanorm

N, C, T = 3, 4, 11
QUICK = [("truncate", "weight heavy"), ("zero", ""), ("replicate", "where keep"), ("all", "")]


@pytest.mark.parametrize(
    ("pool", "weights"),
    [
        pytest.param(p, w, marks=[] if (p, w) in QUICK else [pytest.mark.extended])
        for p in POOLS
        for w in WEIGHTS
    ],
)
def test_scans_are_sums_over_dense_matrices(pool: str, weights: str) -> None:
    actual = metanorm.loads(near_text(pool, weights)).Near
    for width in (1, 2, 3, 6, T, 4 * T) if pool != "all" else (1,):
        x, keep, heavy = inputs(N, C, T)
        with use("native"), kernels_counted() as counted:
            y = actual(width)(x, keep, heavy)
            wanted = right(x, keep, heavy, pool, weights, width)
            torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-9)
            seed = torch.randn_like(y)
            by = (x, heavy) if "heavy" in weights else (x,)
            gradients = torch.autograd.grad(y, by, seed)
        assert len(counted) == 2
        for ours, theirs in zip(gradients, torch.autograd.grad(wanted, by, seed)):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


LIBRARY = {
    "CumulativeLayerNorm": ((5,), (3, 5, 70)),
    "DivisiveNorm": ((4, 3, 4), (2, 4, 9, 21)),
    "LocalContextNorm": ((6, 2, 4), (3, 6, 7, 20)),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_layouts_and_threads_change_nothing(name: str, library: ModuleType) -> None:
    """More lines than one call of a scan takes, and islands of several workers."""
    arguments, shape = LIBRARY[name]
    module = getattr(library, name)(*arguments).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    for odd in (torch.clone, channels_last, strided, transposed):
        x = odd(torch.randn(shape, dtype=F64) + 2)
        wanted = everything("torch", module, x, dy=torch.sin)
        for name_, tensor in everything("native", module, x, dy=torch.sin).items():
            torch.testing.assert_close(tensor, wanted[name_], rtol=1e-9, atol=1e-9)
    for empty in ((0, *shape[1:]), (*shape[:-1], 0)):
        with use("native"):
            assert module(torch.empty(empty, dtype=F64)).shape == empty


def test_many_islands_are_scanned_by_all_threads(library: ModuleType) -> None:
    module = library.LocalContextNorm(8, 2, 5)
    x = torch.randn(16, 8, 24, 24)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(everything("native", module, x, dy=torch.sin))
    torch.set_num_threads(before)
    for name in ("output 0", "gradient of x"):
        assert torch.equal(results[0][name], results[1][name])


def test_a_large_mean_costs_no_digits(library: ModuleType) -> None:
    """Nothing is subtracted from a running total; a gradient is taken near the means."""
    torch.manual_seed(0)
    for module, shape in (
        (library.CumulativeLayerNorm(8), (2, 8, 400)),
        (library.LocalContextNorm(4, 2, 9), (2, 4, 30, 30)),
    ):
        x = torch.randn(shape) + 1e3
        exact = everything("native", module.double(), x.double(), dy=weighted)
        rounded = everything("native", module.float(), x, dy=weighted)
        for name in ("output 0", "gradient of x"):
            off = (rounded[name] - exact[name]).abs().max() / exact[name].abs().max()
            assert off < 2e-4, name


def test_what_is_not_a_number_stays_in_its_windows(library: ModuleType) -> None:
    module = library.LocalContextNorm(2, 2, 3)
    x = torch.randn(2, 2, 9, 9)
    x[0, 0, 4, 4] = torch.nan
    actual = everything("native", module, x, dy=torch.ones_like)
    bad = actual["output 0"].isnan()[0, 0]
    assert bad[3:6, 3:6].all() and bad.sum() == 9 and actual["output 0"][1].isfinite().all()
    assert actual["gradient of x"].isnan()[0, 0].sum() <= 25


def test_a_window_of_nothing_is_refused(library: ModuleType) -> None:
    for target in ("torch", "auto"):
        with use(target), pytest.raises(ValueError, match="at least 1 position"):
            library.LocalContextNorm(4, width=0)(torch.randn(1, 4, 3, 3))
