"""Statistics of groups, against one group after the other in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from naive import F64, blur, group_moments
from torch import Tensor

from metanorm.runtime import Groups

INDEX = [2, 0, 2, 2, 0, 4, 2]  # unsorted; groups 1 and 3 are empty, group 4 has one member
COUNT = 6  # and group 5 is empty, at the end


def groups(index: list[int] | None = None, dtype: torch.dtype = torch.long) -> Groups:
    chosen = INDEX if index is None else index
    return Groups(torch.tensor(chosen, dtype=dtype), COUNT, len(chosen))


def values(dtype: torch.dtype = F64, offset: float = 0.0) -> Tensor:
    """A row for each position, whose groups have means far from each other."""
    noise = torch.randn(len(INDEX), 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    return (noise + offset * torch.tensor(INDEX, dtype=F64)[:, None]).to(dtype)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("order", ["unsorted", "sorted", "descending"])
def test_moments_of_any_index(kind: torch.dtype, order: str) -> None:
    index = {"unsorted": INDEX, "sorted": sorted(INDEX), "descending": sorted(INDEX)[::-1]}[order]
    x = values()
    mean, var = group_moments(x, index, COUNT)
    moments = groups(index, kind).moments(x, 0)
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.var, var)


def test_empty_groups_are_zero() -> None:
    moments = groups().moments(values() + 5, 0)
    for group in (1, 3, 5):
        assert moments.mean[group].tolist() == moments.var[group].tolist() == [0, 0, 0]
    assert groups().sizes(values()).tolist() == [2, 0, 4, 0, 1, 0]


def test_a_group_of_one_has_no_variance() -> None:
    assert groups().moments(values(), 0).var[4].tolist() == [0, 0, 0]


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_groups_that_are_far_apart_have_variances_of_their_own(offset: float) -> None:
    x = values(torch.float32, offset)
    mean, var = group_moments(x, INDEX, COUNT)
    moments = groups().moments(x, 0)
    torch.testing.assert_close(moments.mean.to(F64), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.var.to(F64), var, rtol=1e-5, atol=1e-5 + blur(x))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_any_dimension(dim: int) -> None:
    length = len(INDEX)
    x = torch.randn(length, length, length, dtype=F64)
    mean, var = group_moments(x.movedim(dim, 0), INDEX, COUNT)
    moments = groups().moments(x, dim)
    torch.testing.assert_close(moments.mean.movedim(dim, 0), mean)
    torch.testing.assert_close(moments.var.movedim(dim, 0), var)


def test_other_dimensions_are_pooled_along() -> None:
    x = torch.randn(3, len(INDEX), 2, 4, dtype=F64)
    rows = x.permute(1, 2, 0, 3).reshape(len(INDEX), 2, 12)
    flat = torch.cat([rows[..., i] for i in range(12)])
    mean, var = group_moments(flat, INDEX * 12, COUNT)
    moments = groups().moments(x, 1, (0, 3))
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.var, var)
    torch.testing.assert_close(groups().mean(x, 1, (0, 3)), mean)


def test_values_that_are_not_contiguous() -> None:
    x = torch.randn(3, 2 * len(INDEX), dtype=F64)[:, ::2].T
    actual, wanted = groups().moments(x, 0), groups().moments(x.contiguous(), 0)
    torch.testing.assert_close(actual.mean, wanted.mean)
    torch.testing.assert_close(actual.var, wanted.var)


@pytest.mark.parametrize("also", [(), (1,)])
def test_without_an_index_all_positions_are_one_group(also: tuple[int, ...]) -> None:
    x = values()
    alone = Groups(None, None, len(INDEX))
    zeros = Groups(torch.zeros(len(INDEX), dtype=torch.long), 1, len(INDEX))
    assert alone.count == 1
    for name in ("mean", "total", "largest", "smallest"):
        single, other = (getattr(g, name)(x, 0, also) for g in (alone, zeros))
        torch.testing.assert_close(single, other)
    for single, other in zip(alone.moments(x, 0, also), zeros.moments(x, 0, also)):
        torch.testing.assert_close(single, other)
    for order in (1, 2):
        single, other = (g.norm(x, order, 0, also) for g in (alone, zeros))
        torch.testing.assert_close(single, other)


def test_the_number_of_groups_is_read_from_the_index() -> None:
    assert Groups(torch.tensor([0, 3, 1]), None, 3).count == 4
    assert Groups(torch.zeros(0, dtype=torch.long), None, 0).count == 0


def test_no_positions() -> None:
    none = Groups(torch.zeros(0, dtype=torch.long), 2, 0)
    assert none.moments(torch.zeros(0, 3), 0).mean.tolist() == [[0, 0, 0]] * 2
    assert none.sizes(torch.zeros(1)).tolist() == [0, 0]


STATISTICS: dict[str, tuple[Callable[[Groups, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "total": (lambda g, x: g.total(x, 0), lambda rows: rows.sum(0)),
    "mean": (lambda g, x: g.mean(x, 0), lambda rows: rows.mean(0)),
    "l1": (lambda g, x: g.norm(x, 1, 0), lambda rows: rows.abs().sum(0)),
    "l2": (lambda g, x: g.norm(x, 2, 0), lambda rows: rows.square().sum(0).sqrt()),
    "largest": (lambda g, x: g.largest(x, 0), lambda rows: rows.amax(0)),
    "smallest": (lambda g, x: g.smallest(x, 0), lambda rows: rows.amin(0)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name: str) -> None:
    run, one = STATISTICS[name]
    x, index = values() - 1, torch.tensor(INDEX)
    actual = run(groups(), x)
    for group in range(COUNT):
        rows = x[index == group]
        wanted = one(rows) if len(rows) else torch.zeros(3, dtype=F64)
        torch.testing.assert_close(actual[group], wanted)


@pytest.mark.parametrize("name", STATISTICS)
def test_gradients(name: str) -> None:
    run, _ = STATISTICS[name]
    x = values().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(groups(), x), (x,))


def test_gradients_of_moments() -> None:
    x = values().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: groups().moments(x, 0), (x,))
    assert torch.autograd.gradgradcheck(lambda x: groups().moments(x, 0), (x,))


def test_gradients_of_a_norm_at_zero_are_zero() -> None:
    x = torch.zeros(len(INDEX), 2, dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(groups().norm(x, 2, 0).sum(), x)
    assert gradient.eq(0).all()


def test_what_is_left_out_has_no_influence_even_as_nan() -> None:
    keep = torch.tensor([True, True, False, True, True, True, True])
    weight = torch.tensor([1.0, 2.0, 9.0, 0.5, 1.0, 3.0, 1.0], dtype=F64)
    x = values()
    x[2] = torch.nan
    x.requires_grad_()
    mask, weights = keep[:, None], weight[:, None]
    moments = groups().moments(x, 0, where=mask, weight=weights)
    for group in (0, 2, 4):
        chosen = [i for i, g in enumerate(INDEX) if g == group and keep[i]]
        rows, w = x.detach()[chosen], weight[chosen, None]
        mean = (w * rows).sum(0) / w.sum()
        torch.testing.assert_close(moments.mean[group], mean)
        var = (w * (rows - mean) ** 2).sum(0) / w.sum()
        torch.testing.assert_close(moments.var[group], var)
    gradient = torch.autograd.grad(moments.mean.sum() + moments.var.sum(), x)[0]
    assert gradient[2].eq(0).all()
    assert gradient.isfinite().all()


def test_a_group_without_weight_is_zero() -> None:
    keep = torch.tensor([i != 2 for i in INDEX])[:, None]
    x = values().requires_grad_()
    moments = groups().moments(x, 0, where=keep)
    assert moments.mean[2].eq(0).all()
    assert moments.var[2].eq(0).all()
    assert groups().largest(x, 0, where=keep)[2].eq(0).all()
    gradient = torch.autograd.grad(moments.mean.sum() + moments.var.sum(), x)[0]
    assert gradient.isfinite().all()


def test_values_go_back_to_their_positions() -> None:
    table = torch.randn(COUNT, 3, dtype=F64)
    spread = groups().spread(table, 0)
    assert torch.equal(spread, torch.stack([table[g] for g in INDEX]))
    assert torch.equal(groups().spread(table.T, 1), spread.T)
    assert Groups(None, None, 7).spread(table[:1], 0).shape == (1, 3), "it broadcasts"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_stay(dtype: torch.dtype) -> None:
    x = values(dtype)
    moments = groups().moments(x, 0)
    assert moments.mean.dtype == moments.var.dtype == dtype
    mean, var = group_moments(x, INDEX, COUNT)
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 4e-2, torch.float32: 1e-5}[dtype]
    torch.testing.assert_close(moments.mean.to(F64), mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(moments.var.to(F64), var, rtol=tolerance, atol=tolerance)


def test_equal_extremes_share_the_gradient_whatever_they_are() -> None:
    groups = Groups(torch.tensor([0, 0, 2, 2, 2]), 4, 5)
    for value in (0.0, 3.0, -torch.inf):
        for extreme in (groups.largest, groups.smallest):
            x = torch.full((5, 2), value, requires_grad=True)
            best = extreme(x, 0)
            assert best[:, 0].tolist() == [value, 0, value, 0]
            (gradient,) = torch.autograd.grad(best.sum(), x)
            right = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])[:, None].expand(5, 2)
            torch.testing.assert_close(gradient, right)
