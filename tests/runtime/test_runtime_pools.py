"""Statistics over dimensions, against float64 and against boolean indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from naive import F64, blur, weighted_moments
from torch import Tensor

from metanorm import runtime

DIMS: list[tuple[int, ...]] = [(), (0,), (1,), (0, 2), (-1,), (-3, 1), (0, 1, 2)]


def values(*shape: int, dtype: torch.dtype = F64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


STATISTICS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "mean": (runtime.mean, lambda x, d: x.mean(d)),
    "mean_square": (runtime.mean_square, lambda x, d: x.square().mean(d)),
    "total": (runtime.total, lambda x, d: x.sum(d)),
    "l1": (lambda x, d, **k: runtime.norm(x, 1, d, **k), lambda x, d: x.abs().sum(d)),
    "l2": (lambda x, d, **k: runtime.norm(x, 2, d, **k), lambda x, d: x.square().sum(d).sqrt()),
    "largest": (runtime.largest, lambda x, d: x.amax(d)),
    "smallest": (runtime.smallest, lambda x, d: x.amin(d)),
    "moments.mean": (lambda x, d, **k: runtime.moments(x, d, **k).mean, lambda x, d: x.mean(d)),
    "moments.var": (
        lambda x, d, **k: runtime.moments(x, d, **k).var,
        lambda x, d: x.var(d, correction=0),
    ),
}
ALONE = {"mean_square": Tensor.square, "l1": Tensor.abs, "l2": Tensor.abs}
each = pytest.mark.parametrize("name", STATISTICS)


@each
@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_statistics(name: str, dims: tuple[int, ...]) -> None:
    run, plain = STATISTICS[name]
    x = values(3, 4, 5)
    if dims:
        wanted = plain(x, dims)
    else:  # a pool of one element
        wanted = torch.zeros_like(x) if name == "moments.var" else ALONE.get(name, Tensor.clone)(x)
    torch.testing.assert_close(run(x, dims), wanted)
    kept = run(x, dims, keepdim=True)
    positive = {d % 3 for d in dims}
    assert kept.shape == tuple(1 if d in positive else n for d, n in enumerate(x.shape))
    torch.testing.assert_close(kept.reshape(wanted.shape), wanted)


@each
def test_dimensions_may_be_a_range(name: str) -> None:
    run, _ = STATISTICS[name]
    torch.testing.assert_close(run(values(3, 4, 5), range(1, 3)), run(values(3, 4, 5), (1, 2)))


@each
def test_a_pool_of_nothing_is_zero(name: str) -> None:
    run, _ = STATISTICS[name]
    x = torch.zeros(0, 4, dtype=F64, requires_grad=True)
    actual = run(x, (0,))
    assert actual.shape == (4,)
    assert actual.eq(0).all()
    actual.sum().backward()


@each
def test_one_element(name: str) -> None:
    run, plain = STATISTICS[name]
    x = values(1, 1)
    torch.testing.assert_close(run(x, (0, 1)), plain(x, (0, 1)))


@each
def test_values_that_are_not_contiguous(name: str) -> None:
    run, _ = STATISTICS[name]
    x = values(6, 4, 10)[::2, :, ::2].transpose(0, 2)
    torch.testing.assert_close(run(x, (0, 1)), run(x.contiguous(), (0, 1)))
    rows = values(3, 1).expand(3, 7)
    torch.testing.assert_close(run(rows, (1,)), run(rows.contiguous(), (1,)))


@each
def test_gradients(name: str) -> None:
    run, _ = STATISTICS[name]
    x = values(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(x, (0, 2)), (x,))
    assert torch.autograd.gradgradcheck(lambda x: run(x, (0, 2)), (x,))


MASK = torch.tensor([[True, False, True, True], [False] * 4, [True, True, False, True]])
WEIGHT = torch.tensor([[1.0, 5, 0, 2], [1, 1, 1, 1], [0.5, 3, 1, 0]], dtype=F64)


@pytest.mark.parametrize("way", ["where", "weight", "both"])
def test_what_does_not_count_has_no_influence_even_as_nan(way: str) -> None:
    options = {"where": MASK, "weight": WEIGHT}
    options = options if way == "both" else {way: options[way]}
    counted = (MASK if "where" in options else 1) * (WEIGHT if "weight" in options else 1.0)
    x = values(3, 4)
    x[(counted == 0).expand(3, 4)] = torch.nan
    mean, var = weighted_moments(x, torch.as_tensor(counted, dtype=F64))
    leaf = x.clone().requires_grad_()
    moments = runtime.moments(leaf, (1,), **options)
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.var, var)
    torch.testing.assert_close(runtime.mean(x, (1,), **options), mean)
    gradient = torch.autograd.grad(moments.mean.sum() + moments.var.sum(), leaf)[0]
    assert gradient.isfinite().all()
    assert gradient[(counted == 0).expand(3, 4)].eq(0).all()


@each
def test_a_mask_leaves_what_boolean_indexing_leaves(name: str) -> None:
    run, plain = STATISTICS[name]
    x = values(3, 4)
    actual = run(x, (1,), where=MASK)
    for row in (0, 2):
        torch.testing.assert_close(actual[row], plain(x[row][MASK[row]], (0,)))
    assert actual[1] == 0, "nothing counts"


@each
def test_a_mask_over_fewer_dimensions(name: str) -> None:
    run, _ = STATISTICS[name]
    x, mask = values(3, 4, 5), torch.tensor([True, False, True, False])[:, None]
    torch.testing.assert_close(run(x, (1, 2), where=mask), run(x[:, ::2], (1, 2)))
    kept = run(x, (1, 2), keepdim=True, where=mask)
    torch.testing.assert_close(kept.flatten(), run(x[:, ::2], (1, 2)))


@pytest.mark.parametrize("name", ["mean", "mean_square", "total", "moments.var"])
def test_whole_weights_are_repetitions(name: str) -> None:
    run, plain = STATISTICS[name]
    x, weight = values(4), torch.tensor([1, 0, 3, 2])
    repeated = x.repeat_interleave(weight)
    torch.testing.assert_close(run(x, (0,), weight=weight.to(F64)), plain(repeated, (0,)))


def test_gradients_through_a_weight() -> None:
    x, weight = values(2, 3).requires_grad_(), (values(2, 3, seed=1).abs() + 0.1).requires_grad_()

    def run(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return tuple(runtime.moments(x, (1,), weight=weight))

    assert torch.autograd.gradcheck(run, (x, weight))


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_large_mean_costs_no_digits(offset: float) -> None:
    x = values(64, 32, dtype=torch.float32) + offset
    actual = runtime.moments(x, (0,)).var.to(F64)
    wanted = x.to(F64).var(0, correction=0)
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=blur(x) / 10)


def test_large_tensors_are_measured_in_pieces() -> None:
    x = values(3, 800_000, dtype=torch.float32)
    for dims in ((0,), (1,), (0, 1)):
        moments = runtime.moments(x, dims)
        var = x.to(F64).var(dims, correction=0)
        torch.testing.assert_close(moments.var.to(F64), var, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(moments.mean.to(F64), x.to(F64).mean(dims), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@each
def test_dtypes_stay(name: str, dtype: torch.dtype) -> None:
    run, plain = STATISTICS[name]
    x = values(3, 8, dtype=dtype)
    actual = run(x, (1,))
    assert actual.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        actual.to(F64), plain(x.to(F64), (1,)), rtol=tolerance, atol=tolerance
    )


def test_equal_extremes_share_the_gradient() -> None:
    x = torch.tensor([1.0, 3.0, 3.0], requires_grad=True)
    assert torch.autograd.grad(runtime.largest(x, (0,)), x)[0].tolist() == [0, 0.5, 0.5]
    assert torch.autograd.grad(runtime.smallest(-x, (0,)), x)[0].tolist() == [0, -0.5, -0.5]
    a, b = x.detach()[1:2].requires_grad_(), x.detach()[2:].requires_grad_()
    for function in (runtime.maximum, runtime.minimum):
        assert [g.item() for g in torch.autograd.grad(function(a, b), (a, b))] == [0.5, 0.5]


@pytest.mark.parametrize("function", [runtime.maximum, runtime.minimum])
def test_one_of_two_may_be_a_number(function: Callable[..., Tensor]) -> None:
    plain = {runtime.maximum: max, runtime.minimum: min}[function]
    x = torch.tensor([-2.0, 0.5, 3.0], dtype=F64)
    wanted = torch.tensor([plain(v, 0.25) for v in x.tolist()], dtype=F64)
    torch.testing.assert_close(function(x, 0.25), wanted)
    torch.testing.assert_close(function(0.25, x), wanted)


@pytest.mark.parametrize("norm", [lambda x: runtime.norm(x, 2, (0,)), runtime.root])
def test_at_zero_the_derivative_of_a_root_is_zero(norm: Callable[[Tensor], Tensor]) -> None:
    x = torch.zeros(3, dtype=F64, requires_grad=True)
    value = norm(x).sum()
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    assert value == 0
    assert gradient.eq(0).all()


def test_root_elsewhere() -> None:
    x = torch.tensor([0.25, 4.0], dtype=F64, requires_grad=True)
    torch.testing.assert_close(runtime.root(x), x.sqrt())
    assert torch.autograd.gradcheck(runtime.root, (x,))
    assert runtime.root(torch.tensor([-1.0])).isnan().all()


def test_unbiased() -> None:
    x = values(5)
    biased, right = x.var(correction=0), x.var()
    torch.testing.assert_close(runtime.unbiased(biased, 5), right)
    torch.testing.assert_close(runtime.unbiased(biased, torch.tensor(5.0)), right)
    for few in (0, 1):
        assert runtime.unbiased(biased, few) == biased
        assert runtime.unbiased(biased, torch.tensor(float(few))) == biased


def test_count_is_the_weight_of_all_elements() -> None:
    like = torch.zeros(1, dtype=F64)
    assert runtime.count(like, (3, 4)) == 12
    assert runtime.count(like, (3, 4), where=MASK) == 6
    assert runtime.count(like, (3, 4), weight=WEIGHT) == 16.5
    assert runtime.count(like, (3, 4), where=MASK[:, :1]) == 8, "columns count alike"
    assert runtime.count(like, (0, 4)) == 0


def test_a_tensor_is_repeated_as_a_whole() -> None:
    x = torch.tensor([[1, 2], [3, 4]])
    assert runtime.tiled(x, 2, 1).tolist() == [[1, 2, 1, 2], [3, 4, 3, 4]]
    assert runtime.tiled(x, 2, 0).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_contractions_widen_and_do_not_halve_under_autocast() -> None:
    a, b = values(3, 4, dtype=torch.float32), values(4, 2)
    actual = runtime.contracted("nk,km->nm", a, b)
    assert actual.dtype == F64
    torch.testing.assert_close(actual, a.to(F64) @ b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(runtime.contracted("nk,km->nm", a, b), actual)
        assert runtime.contracted("nk,mk->nm", a, a).dtype == torch.float32


def test_rows_are_chosen_from_the_start_and_by_numbers() -> None:
    table = torch.arange(6.0).reshape(3, 2)
    labels = torch.tensor([[2], [0]])
    for dtype in (torch.uint8, torch.int32, torch.int64):
        assert runtime.chosen(table, labels.to(dtype)).tolist() == [[[4, 5]], [[0, 1]]]
    for label in (-1, 3):
        with pytest.raises(IndexError):
            runtime.chosen(table, torch.tensor([label]))


def test_rows_are_not_chosen_by_numbers_that_are_cut_or_by_masks() -> None:
    for index in (torch.tensor([0.0, 1.7]), torch.tensor([True, False])):
        with pytest.raises(TypeError, match="expected integers, got torch"):
            runtime.chosen(torch.eye(3), index)


@each
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_a_mask_leaves_out_may_be_anything(name: str, bad: float) -> None:
    run, _ = STATISTICS[name]
    x = values(3, 4).masked_fill(~MASK, bad).requires_grad_()
    calm = torch.where(MASK, x.detach(), 0.5).requires_grad_()
    actual, right = (run(v, (1,), where=MASK) for v in (x, calm))
    torch.testing.assert_close(actual, right)
    for gradient, other in zip(
        *(torch.autograd.grad(v.sum(), w) for v, w in ((actual, x), (right, calm)))
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize(
    ("index", "count", "says"),
    [
        (torch.tensor([0.0, 1.0]), 2, "labels of groups: expected integers, got torch.float32"),
        (torch.tensor([True, False]), 2, "labels of groups: expected integers, got torch.bool"),
        (torch.tensor([0, 1]).short(), 2, "must be int64 or int32, got torch.int16"),
        (torch.tensor([0, 1]), 2.0, "must be an int, got 2.0"),
        (torch.tensor([0, 2]), 2, "run from 0 to 2, and the groups from 0 to 1"),
        (torch.tensor([-1, 1]), None, "run from -1 to 1, and the groups from 0 to 1"),
    ],
)
def test_labels_that_name_no_group_are_told(index: Tensor, count: Any, says: str) -> None:
    with pytest.raises((TypeError, IndexError), match=says):
        runtime.Groups(index, count, 2)
