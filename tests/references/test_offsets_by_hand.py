"""Segments of packed batches, by hand in plain torch: a loop over the sequences."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from comparing import assert_close_with_gradients
from torch import Tensor, nn

from metanorm import loads, runtime

F64 = torch.float64
SPEC = """
norm Segments(eps = 1e-5) {
  input  x[T, C = c], cu_seqlens: offsets[T]
  reduce T: cu_seqlens
  affine C }
norm Weighed(eps = 1e-5) {
  input  x[T, C], trust[T], cu_seqlens: offsets[T]
  reduce T: cu_seqlens weight trust }
norm Past(eps = 1e-5) {
  input  x[T, C], cu_seqlens: offsets[T]
  reduce C, T: causal within cu_seqlens }
norm Window(width: int, eps = 1e-5) {
  input  x[T, C], cu_seqlens: offsets[T]
  reduce T: window(width) within cu_seqlens }
norm Recent(width: int, eps = 1e-5) {
  input  x[N, T, C], trust[N, T], keep: mask[N, T], cu_seqlens: offsets[T]
  reduce T: window(width) within cu_seqlens, C where keep weight trust }
norm Cumulated(width: int) {
  input  x[T, C], cu_seqlens: offsets[T]
  output sum(x over T: causal(width) within cu_seqlens), seen = count(over T: causal(width) within cu_seqlens) }
norm Peak(width: int) {
  input  x[N, T], cu_seqlens: offsets[T]
  output max(x over T: causal(width) within cu_seqlens) }
norm OfGroups(eps = 1e-5) {
  input  x[V, C], batch: index[V]
  reduce V: batch }
norm Calling {
  input  x[T, C], cu_seqlens: offsets[T]
  output OfGroups(x, cu_seqlens) }
norm Ends {
  input  x[T, C], cu_seqlens: offsets[T]
  let    first = sum(x over T: cu_seqlens where position(T) == min(position(T) over T: cu_seqlens))
  output x - first, last = sum(x over T: cu_seqlens where position(T) == max(position(T) over T: cu_seqlens)) }
norm Shares {
  input  x[T, C], cu_seqlens: offsets[T]
  let    e = exp(x - max(x over T: cu_seqlens))
  output e / sum(e over T: cu_seqlens) }
norm Begun(eps = 1e-5) {
  input  x[T, C = c], cu_seqlens: offsets[T]
  param  scale[C] = 1 first max(rms(x over T: cu_seqlens) over T)
  output x / (scale + eps) }
"""
OFFSETS = torch.tensor([0, 4, 4, 5, 11, 12])  # an empty segment, and two of a single position
LENGTH = int(OFFSETS[-1])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def by_segment(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of each sequence, packed again."""
    bounds = OFFSETS.tolist()
    return torch.cat([f(x[a:b]) for a, b in pairwise(bounds)])


def standard(x: Tensor) -> Tensor:
    if not len(x):
        return x
    var, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) / (var + 1e-5).sqrt()


def past(x: Tensor) -> Tensor:
    rows = [
        (x[t] - x[: t + 1].mean()) / (x[: t + 1].var(correction=0) + 1e-5).sqrt()
        for t in range(len(x))
    ]
    return torch.stack(rows) if rows else x


def windows(width: int) -> Callable[[Tensor], Tensor]:
    def norm(x: Tensor) -> Tensor:
        rows = []
        for t in range(len(x)):
            near = x[max(0, t - width // 2) : t + (width - 1) // 2 + 1]
            rows.append((x[t] - near.mean(0)) / (near.var(0, correction=0) + 1e-5).sqrt())
        return torch.stack(rows) if rows else x

    return norm


def peaks(width: int) -> Callable[[Tensor], Tensor]:
    def norm(x: Tensor) -> Tensor:
        rows = [x[max(0, t - width + 1) : t + 1].amax(0) for t in range(len(x))]
        return torch.stack(rows) if rows else x

    return norm


def data(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=F64, requires_grad=True)


def test_positions_of_each_segment(norms: ModuleType) -> None:
    """What MN0410 says to write in the place of `x[T = 0]` and of `softmax(x over T)`."""
    x = torch.randn(LENGTH, 3, dtype=F64, requires_grad=True)
    y, _ = norms.Ends()(x, OFFSETS)
    assert_close_with_gradients(y, by_segment(lambda segment: segment - segment[:1], x), x)
    _, last = norms.Ends()(x, OFFSETS)
    assert_close_with_gradients(
        last, by_segment(lambda segment: segment[-1:].expand_as(segment), x), x
    )
    assert_close_with_gradients(
        norms.Shares()(x, OFFSETS), by_segment(lambda segment: segment.softmax(0), x), x
    )


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_segments_are_sequences(route: str, dtype: torch.dtype, norms: ModuleType) -> None:
    norm, x = norms.Segments(3).double(), data(LENGTH, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with runtime.use(route):
        actual = norm(x, OFFSETS.to(dtype))
    right = norm.weight * by_segment(standard, x) + norm.bias
    assert_close_with_gradients(actual, right, x, norm.weight, norm.bias)


@pytest.mark.parametrize("route", ["torch", "native"])
def test_weights_count_within_segments(route: str, norms: ModuleType) -> None:
    x = data(LENGTH, 2)
    trust = torch.rand(LENGTH, dtype=F64, requires_grad=True)
    bounds, rows = OFFSETS.tolist(), []
    for a, b in pairwise(bounds):
        if a < b:
            share = (trust[a:b] / trust[a:b].sum())[:, None]
            mean = (share * x[a:b]).sum(0)
            rows.append((x[a:b] - mean) / ((share * (x[a:b] - mean) ** 2).sum(0) + 1e-5).sqrt())
    with runtime.use(route):
        actual = norms.Weighed()(x, trust, OFFSETS)
    assert_close_with_gradients(actual, torch.cat(rows), x, trust)


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 20])
def test_windows_end_with_their_segment(route: str, width: int, norms: ModuleType) -> None:
    x = data(LENGTH, 2)
    with runtime.use(route):
        actual = norms.Window(width)(x, OFFSETS)
    assert_close_with_gradients(actual, by_segment(windows(width), x), x)


@pytest.mark.parametrize("route", ["torch", "native"])
def test_the_past_begins_with_its_segment(route: str, norms: ModuleType) -> None:
    x = data(LENGTH, 2)
    with runtime.use(route):
        actual, of_one = norms.Past()(x, OFFSETS), norms.Past()(x)
    assert_close_with_gradients(actual, by_segment(past, x), x)
    assert_close_with_gradients(of_one, past(x), x)


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("width", [1, 4, 20])
def test_masks_and_weights_within_segments(route: str, width: int, norms: ModuleType) -> None:
    x, keep = data(2, LENGTH, 3), torch.rand(2, LENGTH) < 0.6
    trust = torch.rand(2, LENGTH, dtype=F64, requires_grad=True)
    share = torch.where(keep, trust, 0)
    samples = []
    for n in range(2):
        for a, b in pairwise(OFFSETS.tolist()):
            for t in range(a, b):
                near = slice(max(a, t - width // 2), min(b, t + (width - 1) // 2 + 1))
                total = share[n, near].sum()
                if not total:  # nothing counts here
                    samples.append(x.new_zeros(3))
                    continue
                weight = (share[n, near] / total / 3)[:, None]
                mean = (weight * x[n, near]).sum()
                var = (weight * (x[n, near] - mean) ** 2).sum()
                samples.append((x[n, t] - mean) / (var + 1e-5).sqrt())
    right = torch.stack(samples).view(2, LENGTH, 3)
    with runtime.use(route):
        actual = norms.Recent(width)(x, trust, keep, OFFSETS)
    assert_close_with_gradients(actual, right, x, trust)


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("width", [1, 3, 20])
def test_sums_and_counts_of_pasts_of_segments(route: str, width: int, norms: ModuleType) -> None:
    x = data(LENGTH, 2)

    def sums(x: Tensor) -> Tensor:
        rows = [x[max(0, t - width + 1) : t + 1].sum(0) for t in range(len(x))]
        return torch.stack(rows) if rows else x

    with runtime.use(route):
        actual, count = norms.Cumulated(width)(x, OFFSETS)
    assert_close_with_gradients(actual, by_segment(sums, x), x)
    lengths = [min(t + 1, width) for a, b in pairwise(OFFSETS.tolist()) for t in range(b - a)]
    assert count.tolist() == lengths


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_kernels_of_random_segments(seed: int, dtype: torch.dtype, norms: ModuleType) -> None:
    """More lines than are scanned at once, segments of nothing, of one position and of all."""
    generator = torch.Generator().manual_seed(seed)
    length = (1, 2, 33, 90, 90, 257)[seed]
    cuts = torch.randint(0, length + 1, ((0, 3, 9, 40, 200, 5)[seed],), generator=generator)
    offsets = torch.cat((torch.tensor([0]), cuts.sort().values, torch.tensor([length])))
    wide = torch.randn(length, 80, dtype=F64, generator=generator).to(dtype)
    dy = torch.randn(length, 37, dtype=F64, generator=generator).to(dtype)
    for norm in (norms.Past(), norms.Window(4), norms.Window(2 * length)):
        results = []
        for route, of in (("native", dtype), ("torch", F64)):
            x = wide.to(of)[:, 3:77:2].requires_grad_()  # with gaps between its elements
            with runtime.use(route):
                y = norm(x, offsets)
            results.append((y, *torch.autograd.grad(y, x, dy.to(of))))
        for actual, right in zip(*results):
            assert actual.dtype == dtype
            bounds = {F64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.05}
            error = (actual.to(F64) - right).abs().max() / right.abs().max().clamp(min=1)
            assert error < bounds[dtype], error


def test_segments_with_far_means_lose_no_digits(norms: ModuleType) -> None:
    """A gradient is about the mean of a segment, not that of all of them."""
    x = data(LENGTH, 4).detach()
    means = torch.repeat_interleave(torch.tensor([0.0, 1e5, -3e5, 0.0, 7.0]), OFFSETS.diff())
    x = (x.float() + means[:, None]).requires_grad_()
    dy = torch.randn(LENGTH, 4)
    for norm in (norms.Past(), norms.Window(3)):
        with runtime.use("native"):
            (gradient,) = torch.autograd.grad(norm(x, OFFSETS), x, dy)
        exact = x.detach().double().requires_grad_()
        with runtime.use("torch"):
            (right,) = torch.autograd.grad(norm(exact, OFFSETS), exact, dy.double())
        near = means.abs() < 10
        torch.testing.assert_close(gradient[near].double(), right[near], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("width", [1, 3, 20])
def test_the_largest_value_of_a_past(width: int, norms: ModuleType) -> None:
    x = data(2, LENGTH)
    right = by_segment(peaks(width), x.T).T
    assert_close_with_gradients(norms.Peak(width)(x, OFFSETS), right, x)


def test_a_nan_stays_in_its_segment(norms: ModuleType) -> None:
    x = data(LENGTH, 2).detach()
    x[6] = torch.nan
    for norm in (norms.Past(), norms.Window(3), norms.Segments(2).double()):
        for route in ("torch", "native"):
            x = x.detach().requires_grad_()
            with runtime.use(route):
                y = norm(x, OFFSETS)
                (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
            for numbers in (y, gradient):
                bad = numbers.isnan().any(1).nonzero().flatten().tolist()
                assert bad and set(bad) <= set(range(5, 11))


def test_a_norm_of_groups_takes_segments(norms: ModuleType) -> None:
    x = data(LENGTH, 2)
    assert_close_with_gradients(norms.Calling()(x, OFFSETS), by_segment(standard, x), x)


def test_a_first_batch_has_segments(norms: ModuleType) -> None:
    norm, x = norms.Begun(2).double(), data(LENGTH, 2).detach()
    norm(x, OFFSETS)
    bounds = OFFSETS.tolist()
    sizes = [x[a:b].square().mean(0).sqrt() for a, b in pairwise(bounds) if a < b]
    torch.testing.assert_close(norm.scale.detach(), torch.stack(sizes).amax(0))


@pytest.mark.parametrize(
    "offsets, error, words",
    [
        (torch.tensor([1, 4, 12]), ValueError, "must begin with 0, where the first segment does, got 1"),
        (torch.tensor([0, 6, 4, 12]), ValueError, "must not decrease: 6 at 1 is followed by 4"),
        (torch.tensor([0, 4, 11]), ValueError, "must end with the length of the packed axis, 12, got 11"),
        (torch.tensor([0.0, 12.0]), TypeError, "expected integers, got torch.float32"),
        (torch.tensor([0, 12], dtype=torch.int16), TypeError, "must be int64 or int32"),
        (torch.tensor([[0, 12]]), runtime.ShapeError, r"expected \[segments \+ 1\]"),
        (torch.tensor([], dtype=torch.int64), runtime.ShapeError, r"expected \[segments \+ 1\]"),
        (torch.tensor([0, 12], device="meta"), RuntimeError, "is on meta and the input on cpu, but all"),
        ([0, 12], TypeError, "cu_seqlens must be a tensor, got a list"),
    ],
)  # fmt: skip
def test_wrong_offsets_are_refused_in_words(
    offsets: Tensor, error: type[Exception], words: str, norms: ModuleType
) -> None:
    for norm in (norms.Segments(3).double(), norms.Past()):
        with pytest.raises(error, match=f"^{type(norm).__name__}: .*{words}"):
            norm(data(LENGTH, 3), offsets)


def test_offsets_that_change_in_place_are_read_again(norms: ModuleType) -> None:
    x, offsets = data(LENGTH, 2), OFFSETS.clone()
    norm = norms.Past()
    first = norm(x, offsets)
    offsets[1:3] = 2
    assert not torch.equal(first, norm(x, offsets))
    offsets[0] = 1
    with pytest.raises(ValueError, match="begin with 0"):
        norm(x, offsets)


def test_segments_are_found_once_for_all_layers(norms: ModuleType) -> None:
    offsets = OFFSETS.clone()
    actual = [
        runtime.segment_of_position(offsets, LENGTH, offsets, "Norm", "offsets") for _ in "ab"
    ]
    assert actual[0] is actual[1]


def test_inference_before_training(norms: ModuleType) -> None:
    norm, x, offsets = norms.Segments(2).double(), data(LENGTH, 2), OFFSETS.clone()
    with torch.inference_mode(), runtime.use("torch"):
        norm(x.detach(), offsets)
    with runtime.use("torch"):
        norm(x, offsets).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", ["Segments", "Past"])
def test_a_graph_finds_segments_itself(name: str, norms: ModuleType) -> None:
    norm = getattr(norms, name)(*([3] if name == "Segments" else [])).double()
    x = data(LENGTH, 3)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    assert_close_with_gradients(compiled(x, OFFSETS), norm(x, OFFSETS), x)


def test_an_empty_batch(norms: ModuleType) -> None:
    x = torch.zeros(0, 3, dtype=F64)
    for offsets in (torch.tensor([0]), torch.tensor([0, 0])):
        assert norms.Segments(3).double()(x, offsets).shape == (0, 3)
        assert norms.Past()(x, offsets).shape == (0, 3)
