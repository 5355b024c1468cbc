"""Values of single rows beside values of groups of rows: references in plain torch, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, weighted
from torch import Tensor, nn

import metanorm

LABELS = [2, 0, 2, 5, 0, 0, 5, 2, 2, 0, 2]
Reference = Callable[[Tensor, Tensor], Tensor]


def of_groups(values: Tensor, batch: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic of the rows of each group, for each row again."""
    results = {int(b): pool(values[batch == b]) for b in batch}
    return torch.stack([results[int(b)] for b in batch])


def centred(x: Tensor, batch: Tensor) -> Tensor:
    return x - of_groups(x, batch, lambda rows: rows.mean(0))


def row_after_group(x: Tensor, batch: Tensor) -> Tensor:
    gap = centred(x, batch)
    return gap / (1 + gap.norm(dim=-1, keepdim=True))


def both_of_the_data(x: Tensor, batch: Tensor) -> Tensor:
    return centred(x, batch) - x.mean(-1, keepdim=True)


def statistics_of_rows_in_groups(x: Tensor, batch: Tensor) -> Tensor:
    row_means = x.mean(-1)
    mean = of_groups(row_means, batch, lambda rows: rows.mean(0))
    var = of_groups(row_means, batch, lambda rows: rows.var(0, correction=0))
    return (x - mean[..., None]) / (1 + var + (row_means - mean) ** 2)[..., None]


def extremes_of_rows_in_groups(x: Tensor, batch: Tensor) -> Tensor:
    row_means = x.square().mean(-1)
    top = of_groups(row_means, batch, lambda rows: rows.amax(0))
    total = of_groups(row_means, batch, lambda rows: rows.sum(0))
    return x * (row_means / (1 + total))[..., None] + top[..., None]


def rows_of_all_groups(x: Tensor, batch: Tensor) -> Tensor:
    gap = centred(x, batch)
    size = gap.square().sum(-1)
    return gap * (size / (1 + size.sum(0)))[..., None]


# For each norm, what it is called: a row is whatever has a place along V.
NORMS: dict[str, tuple[str, Reference]] = {
    "a row after its group": (
        "let g = x - mean(x over V: batch) output g / (1 + l2(g over C))", row_after_group,
    ),
    "both of the data": ("output x - mean(x over V: batch) - mean(x over C)", both_of_the_data),
    "statistics of rows in groups": (
        """let r = mean(x over C)
           let m = mean(r over V: batch)
           output (x - m) / (1 + var(r over V: batch) + (r - m)^2)""",
        statistics_of_rows_in_groups,
    ),
    "extremes of rows in groups": (
        """let r = mean(x^2 over C)
           output x * r / (1 + sum(r over V: batch)) + max(r over V: batch)""",
        extremes_of_rows_in_groups,
    ),
    "rows of all groups": (
        """let g = x - mean(x over V: batch)
           let s = sum(g^2 over C)
           output g * s / (1 + sum(s over V))""",
        rows_of_all_groups,
    ),
}  # fmt: skip


class Written(nn.Module):
    def __init__(self, compute: Reference) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        return self.compute(x, batch)


# C has no kernels for statistics that pool crosswise.
CASES = [(name, axes) for name in NORMS for axes in ("V, C", "V, T, C")]
CASES.remove(("both of the data", "V, T, C"))


@pytest.mark.parametrize(("name", "axes"), CASES)
def test_a_norm(name: str, axes: str) -> None:
    body, compute = NORMS[name]
    norm = metanorm.loads(f"norm A {{ input x[{axes}], batch: index[V] {body} }}").A()
    x = torch.randn(11, *([3] if "T" in axes else []), 4, dtype=F64)
    for batch in (torch.tensor(LABELS), torch.tensor(LABELS).sort().values):
        others = {"batch": batch}
        with kernels_counted() as kernels:
            actual = everything("native", norm, x, others, weighted)
        assert len(kernels) == 2
        agree(actual, everything("torch", Written(compute), x, others, weighted))


@pytest.mark.parametrize("last", [0, 1])
def test_rows_that_lie_apart(last: int) -> None:
    """Memory runs along an axis beside the one of rows, or along the one that each pools."""
    body, compute = NORMS["a row after its group"]
    norm = metanorm.loads(f"norm A {{ input x[V, T, C], batch: index[V] {body} }}").A()
    x = torch.randn(11, 5, 4, dtype=F64).movedim(last, -1).contiguous().movedim(-1, last)
    others = {"batch": torch.tensor(LABELS)}
    actual = everything("native", norm, x, others, weighted)
    agree(actual, everything("torch", Written(compute), x, others, weighted))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("groups", [2, 300])
def test_many_rows(groups: int, threads: int) -> None:
    """Threads have groups of their own where there are many, and rows of all where there are few;
    the same number of them finds the same bits."""
    batch = torch.randint(0, groups, (3000,)).square() % groups
    x, before = torch.randn(3000, 17, dtype=F64), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, (body, compute) in NORMS.items():
            norm = metanorm.loads(f"norm A {{ input x[V, C], batch: index[V] {body} }}").A()
            actual = everything("native", norm, x, {"batch": batch}, weighted)
            again = everything("native", norm, x, {"batch": batch}, weighted)
            agree(actual, everything("torch", Written(compute), x, {"batch": batch}, weighted))
            assert all(torch.equal(actual[key], again[key]) for key in actual), name
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    body, compute = NORMS["a row after its group"]
    norm = metanorm.loads(f"norm A {{ input x[V, C], batch: index[V] {body} }}").A()
    x = torch.randn(11, 4).to(dtype)
    with kernels_counted() as kernels:
        y = norm(x, torch.tensor(LABELS))
    assert len(kernels) == 1 and y.dtype == dtype
    right = compute(x.double(), torch.tensor(LABELS)).to(dtype)
    torch.testing.assert_close(y, right)


def test_no_rows() -> None:
    norm = metanorm.loads(
        f"norm A {{ input x[V, C], batch: index[V] {NORMS['both of the data'][0]} }}"
    )
    assert norm.A()(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 4)
