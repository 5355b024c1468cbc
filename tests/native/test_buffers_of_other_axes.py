"""Buffers that follow values with other axes, or in another order: by hand, in plain torch."""

from __future__ import annotations

import pytest
import torch
from layers import F64, kernels_counted, use
from torch import Tensor

import metanorm


def made(body: str) -> torch.nn.Module:
    text = f"norm A {{ input x[N, C = num_c, T = num_t] {body} }}"
    module: torch.nn.Module = metanorm.loads(text).A(num_c=3, num_t=4).double()
    return module


NORMS = {
    "another order": "buffer seen[T, C] = 0 update seen = mean(x over N) output x - seen",
    "an axis along which the value is the same": """
        buffer seen[T, C] = 0 update seen = mean(x over N, T) output x - seen""",
    "no axis at all": "buffer seen[T, C] = 0 update seen = mean(x over N, C, T) output x - seen",
    "what is an output as well, in another order": """
        buffer seen[T, C] = 0 let m = mean(x over N) update seen = m
        output y = x - seen, m = m""",
    "two buffers in two orders": """
        buffer seen[T, C] = 0, more[C, T] = 0 let m = mean(x over N)
        update seen = m
        update more = m
        output x - seen + more - more""",
    "a buffer in another order": """
        buffer seen[T, C] = 0, more[C, T] = 1
        update seen = more + mean(x over N) - more
        output x - seen + 0 * more""",
}  # fmt: skip


def followed(x: Tensor, name: str) -> Tensor:
    pooled = {"an axis along which the value is the same": (0, 2), "no axis at all": (0, 1, 2)}
    mean = x.mean(pooled.get(name, (0,)), keepdim=True)
    return mean.expand(1, 3, 4)[0].T


@pytest.mark.parametrize("layout", ["as declared", "C lies last"])
@pytest.mark.parametrize("name", NORMS)
def test_a_buffer(name: str, layout: str) -> None:
    module, x = made(NORMS[name]), torch.randn(5, 3, 4, dtype=F64)
    x = x if layout == "as declared" else x.transpose(1, 2).contiguous().transpose(1, 2)
    with use("native"), kernels_counted() as kernels:
        y = module(x)
    assert len(kernels) == 1
    torch.testing.assert_close(y if isinstance(y, Tensor) else y[0], x)  # of before the call
    torch.testing.assert_close(module.seen, followed(x, name))
    if "two buffers" in name:
        torch.testing.assert_close(module.more, followed(x, name).T)


def test_statistics_of_domains() -> None:
    """Rows of buffers follow the groups that have elements, by a momentum."""
    module = metanorm.load("specs/domain_batch_norm.norm").DomainBatchNorm(4, 3).double()
    domain = torch.tensor([2, 0, 2, 2, 0])
    mean, var = torch.zeros(4, 3, dtype=F64), torch.ones(4, 3, dtype=F64)
    for _ in range(3):
        x = torch.randn(5, 3, 6, dtype=F64) + 1
        with use("native"), kernels_counted() as kernels:
            module(x, domain)
        assert len(kernels) == 1
        for d in (0, 2):
            rows = x[domain == d].transpose(0, 1).flatten(1)
            mean[d] += 0.1 * (rows.mean(1) - mean[d])
            var[d] += 0.1 * (rows.var(1) - var[d])
    torch.testing.assert_close(module.running_mean, mean)
    torch.testing.assert_close(module.running_var, var)


@pytest.mark.parametrize("label", [-1, 4, 1 << 40])
@pytest.mark.parametrize("training", [True, False])
def test_labels_that_no_table_has(label: int, training: bool) -> None:
    """The error is that of torch, in the first call and when a plan is at hand; nothing moves."""
    module = metanorm.load("specs/domain_batch_norm.norm").DomainBatchNorm(4, 3).train(training)
    x, good = torch.randn(3, 3, 2), torch.tensor([0, 3, 1])
    said = []
    for target in ("torch", "auto"):
        with use(target):  # type: ignore[arg-type]
            for warm in (False, True):
                if warm:
                    module(x, good), module(x, good)
                before = module.running_mean.clone()
                with pytest.raises(Exception) as caught:  # type: ignore[arg-type]
                    module(x, torch.tensor([0, label, 1]))
                said.append((caught.type, str(caught.value)))
                assert torch.equal(module.running_mean, before)
    assert len(set(said)) == 1


def test_tables_of_several_lengths_share_what_is_remembered() -> None:
    """Plans belong to the function, which has tables of any length."""
    norms = metanorm.load("specs/domain_batch_norm.norm")
    small, large = norms.DomainBatchNorm(2, 3), norms.DomainBatchNorm(6, 3)
    x = torch.randn(4, 3, 2)
    for _ in range(3):
        for module, top in ((small, 1), (large, 5), (small, 1)):
            labels = torch.tensor([0, top, 0, top])
            with kernels_counted() as kernels:
                module(x, labels)
            assert len(kernels) == 1
            with pytest.raises(Exception, match="labels of groups"):
                module(x, labels + 1)
