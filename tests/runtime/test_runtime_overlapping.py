"""Pools by windows, the past and given rows, against sums that are written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive import F64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metanorm import runtime
from metanorm.bench.memory import peak_bytes, saved_bytes

EDGES = ("truncate", "zero", "replicate")
MATRICES: dict[str, runtime.Window] = {
    **{f"window 3, {edge}": runtime.Window(3, edge) for edge in EDGES},
    **{f"window 4, {edge}": runtime.Window(4, edge) for edge in EDGES},
    "window 50": runtime.Window(50, "replicate"),
    "causal": runtime.Causal(),
    "causal 2": runtime.Causal(2),
}


def pool_of(x: Tensor, row: int, width: int, edge: str) -> list[Tensor]:
    """The elements of one window along the first dimension."""
    results = []
    for place in range(row - width // 2, row + (width - 1) // 2 + 1):
        if 0 <= place < len(x):
            results.append(x[place])
        elif edge == "zero":
            results.append(torch.zeros_like(x[0]))
        elif edge == "replicate":
            results.append(x[0] if place < 0 else x[-1])
    return results


SEEDS = st.integers(0, 2**31)


@given(st.integers(1, 9), st.integers(1, 20), st.sampled_from(EDGES), SEEDS, st.booleans())
def test_windows_are_what_they_say(n: int, width: int, edge: str, seed: int, front: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=F64)
    along = {0 if front else -2: runtime.Window(width, edge)}
    pools = [torch.stack(pool_of(x, row, width, edge)) for row in range(n)]
    close = torch.testing.assert_close
    mean, var = runtime.moments_along(x, along)
    close(mean, torch.stack([p.mean(0) for p in pools]))
    close(var, torch.stack([p.var(0, correction=0) for p in pools]))
    close(runtime.mean_along(x, along), mean)
    close(runtime.total_along(x, along), torch.stack([p.sum(0) for p in pools]))
    close(runtime.norm_along(x, 2, along), torch.stack([p.norm(dim=0) for p in pools]))
    close(runtime.norm_along(x, 1, along), torch.stack([p.abs().sum(0) for p in pools]))
    close(runtime.mean_square_along(x, along), torch.stack([p.square().mean(0) for p in pools]))
    close(runtime.largest_along(x, along), torch.stack([p.amax(0) for p in pools]))
    close(runtime.smallest_along(x, along), torch.stack([p.amin(0) for p in pools]))
    sizes = runtime.Window(width, edge).sizes(x, n)
    assert sizes.tolist() == [len(p) for p in pools]


@given(st.integers(1, 9), SEEDS, st.integers(1, 12))
def test_weights_and_masks_count(n: int, seed: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=F64)
    keep = torch.rand(n, 1, generator=generator) < 0.6
    weight = torch.rand(4, generator=generator, dtype=F64)
    past = runtime.Causal(width)
    mean, var = runtime.moments_along(
        x.masked_fill(~keep, math.nan), {0: past}, dim=(1,), where=keep, weight=weight
    )
    for row in range(n):
        rows = [r for r in range(max(0, row - width + 1), row + 1) if keep[r]]
        if not rows:
            assert mean[row] == var[row] == 0
            continue
        share = weight / weight.sum() / len(rows)
        wanted = (share * x[rows]).sum()
        torch.testing.assert_close(mean[row], wanted)
        torch.testing.assert_close(var[row], (share * (x[rows] - wanted).square()).sum())


@pytest.mark.parametrize("name", MATRICES)
def test_gradients(name: str) -> None:
    """Of the first and second order, forward and backward, by values and by weights."""
    matrix = MATRICES[name]
    x = torch.randn(2, 5, dtype=F64, requires_grad=True)
    weight = (torch.rand(2, 5, dtype=F64) + 0.2).requires_grad_()

    def weighted(x: Tensor, weight: Tensor) -> Any:
        return runtime.moments_along(x, {1: matrix}, weight=weight)

    def plain(x: Tensor) -> Any:
        extremes = runtime.largest_along(x, {1: matrix})
        return *runtime.moments_along(x, {1: matrix}, dim=(0,)), extremes

    for function, inputs in ((weighted, (x, weight)), (plain, (x,))):
        assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", MATRICES)
def test_gradients_far_from_zero(name: str) -> None:
    """Backward and forward, by values and by weights: as those of the same values about zero."""
    matrix = MATRICES[name]
    x, dx, dweight = (torch.randn(20, dtype=F64) for _ in range(3))
    weight = torch.rand(20, dtype=F64) + 0.2

    def var(x: Tensor, weight: Tensor) -> Tensor:
        return runtime.moments_along(x, {0: matrix}, weight=weight).var

    def derivatives(x: Tensor) -> list[Tensor]:
        values, pull = torch.func.vjp(var, x, weight)
        return [*pull(values.cos()), torch.func.jvp(var, (x, weight), (dx, dweight))[1]]

    for far, near in zip(derivatives(x + 2.0**23), derivatives(x + 2.0**23 - 2.0**23)):
        torch.testing.assert_close(far, near, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MATRICES)
def test_vmap_and_dtypes(name: str) -> None:
    matrix, x = MATRICES[name], torch.randn(3, 6)
    whole = runtime.moments_along(x, {1: matrix})
    each = torch.vmap(lambda row: tuple(runtime.moments_along(row, {0: matrix})))(x)
    torch.testing.assert_close(each[1], whole.var)
    assert whole.var.dtype == whole.mean.dtype == torch.float32
    strided = torch.randn(6, 6, dtype=F64)[::2].t()
    actual = runtime.moments_along(strided, {0: matrix}).var
    torch.testing.assert_close(actual, runtime.moments_along(strided.contiguous(), {0: matrix}).var)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (0, 0)])
def test_axes_of_length_zero_and_one(name: str, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    along = {1: MATRICES[name]}
    results = [*runtime.moments_along(x, along), runtime.largest_along(x, along)]
    results += [runtime.total_along(x, along), runtime.norm_along(x, 2, along)]
    assert all(y.shape == shape and bool(y.isfinite().all()) for y in results)
    (gradient,) = torch.autograd.grad(sum(y.sum() for y in results), x)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("matrix", [runtime.Window(227), runtime.Causal(), runtime.Causal(1000)])
def test_a_large_mean_does_not_cancel(matrix: runtime.Window) -> None:
    """A million numbers around 1e4 that differ by 1, in float32, against float64 about 1e4."""
    n = 1_000_000
    x = (torch.randn(n) + 1e4).requires_grad_()
    mean, var = runtime.moments_along(x, {0: matrix})
    far = x.detach().double() - 1e4
    for row in (0, 1, 113, 500, 12_345, n // 2, n - 50, n - 1):
        pool = far[max(0, row - matrix.back) : min(n, row + matrix.ahead + 1)]
        torch.testing.assert_close(mean[row].double() - 1e4, pool.mean(), rtol=0, atol=1e-3)
        torch.testing.assert_close(var[row].double(), pool.var(correction=0), rtol=1e-6, atol=1e-9)
    row = n // 2
    (gradient,) = torch.autograd.grad(var[row], x)
    first = max(0, row - matrix.back)
    pool = far[first : row + matrix.ahead + 1]
    wanted = 2 * (pool - pool.mean()) / len(pool)
    actual = gradient[first : row + matrix.ahead + 1].double()
    assert float((actual - wanted).abs().max()) < 1e-6 * float(wanted.abs().max())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", MATRICES)
def test_what_is_not_finite_stays_in_its_windows(name: str, bad: float) -> None:
    matrix, x = MATRICES[name], torch.randn(20, dtype=F64)
    calm = runtime.moments_along(x, {0: matrix})
    x[9] = bad
    moments = runtime.moments_along(x, {0: matrix})
    inside = [abs(i - 9) <= 25 if "50" in name else 9 - 2 <= i <= 9 + 2 for i in range(20)]
    if name == "causal":
        inside = [i >= 9 for i in range(20)]
    for one, other in zip(moments, calm):
        for i in range(20):
            assert inside[i] or one[i] == other[i]


class _Made(TorchDispatchMode):
    """Counts the elements of all tensors that are made."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for output in result if isinstance(result, tuple) else (result,):
            self.count += output.numel() if isinstance(output, Tensor) else 0
        return result


def test_work_and_memory_do_not_grow_with_the_width() -> None:
    n = 20_000
    x = torch.randn(n, dtype=F64, requires_grad=True)

    def run(width: int) -> None:
        runtime.moments_along(x, {0: runtime.Window(width)}).var.sum().backward()

    work, memory, kept = [], [], []
    for width in (20, 2000, 100_000_000):
        with _Made() as made:
            run(width)
        work.append(made.count)
        memory.append(peak_bytes(lambda width=width: run(width)))  # type: ignore[misc]
        window = runtime.Window(width)
        kept.append(saved_bytes(lambda window=window: runtime.moments_along(x, {0: window}), [x]))  # type: ignore[misc]
    assert max(work) < 4 * min(work)
    assert max(memory) < 4 * min(memory)
    assert max(kept) <= 5 * x.nbytes


def test_several_dimensions_at_once() -> None:
    """The variance of a pool over four dimensions, by windows along two of them, is total."""
    x = torch.randn(2, 3, 5, 6, dtype=F64)
    near, wide = runtime.Window(3), runtime.Window(2, "zero")
    mean, var = runtime.moments_along(x, {2: near, -1: wide}, dim=(1,), keepdim=True)
    assert mean.shape == (2, 1, 5, 6)
    for h, w in ((0, 0), (2, 3), (4, 5)):
        columns = torch.stack([x[:, :, max(0, h - 1) : h + 2, w]], -1)
        before = x[:, :, max(0, h - 1) : h + 2, w - 1 : w] if w else torch.zeros_like(columns)
        pool = torch.cat([columns, before], -1).flatten(1)
        torch.testing.assert_close(mean[:, 0, h, w], pool.mean(1))
        torch.testing.assert_close(var[:, 0, h, w], pool.var(1, correction=0))


def test_given_rows_with_all_statistics() -> None:
    matrix = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 1.0]], dtype=F64)
    x = torch.randn(3, 4, dtype=F64, requires_grad=True)
    along = {0: runtime.Rows(matrix, "M", x, 3)}
    torch.testing.assert_close(runtime.total_along(x, along), matrix @ x)
    assert runtime.largest_along(x, along)[1].eq(0).all()
    torch.testing.assert_close(runtime.largest_along(x, along)[0], x[:2].amax(0))
    mean, var = runtime.moments_along(x, along)
    share = matrix / matrix.sum(1, keepdim=True).clamp_min(1e-300)
    torch.testing.assert_close(mean, share @ x)
    wanted = torch.stack([(s[:, None] * (x - m).square()).sum(0) for s, m in zip(share, mean)])
    torch.testing.assert_close(var, wanted)
    assert torch.autograd.gradcheck(lambda x: runtime.moments_along(x, along), (x,))
    with pytest.raises(runtime.ShapeError, match="M is 3 x 3, but its axis has 5"):
        runtime.Rows(matrix, "M", x, 5)


@pytest.mark.parametrize("make", [lambda: runtime.Window(0), lambda: runtime.Causal(-1)])
def test_a_window_holds_something(make: Any) -> None:
    with pytest.raises(ValueError, match="must hold at least 1 position"):
        make()
