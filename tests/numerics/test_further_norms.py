"""Norms of the library that no catalogue of ours lists, beside references in plain torch."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import nn

F64 = torch.float64


def test_act_norm_begins_with_mean_0_and_deviation_1(library: ModuleType) -> None:
    norm = library.ActNorm(3, eps=1e-30, dtype=F64)
    x = torch.randn(4, 3, 5, 2, dtype=F64) * 2 + 1
    right = nn.functional.batch_norm(x, None, None, training=True, eps=1e-30)
    torch.testing.assert_close(norm(x), right)
    y = torch.randn(2, 3, 5, 2, dtype=F64)
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(norm(y), (y - mean) / std)
    torch.testing.assert_close(norm.eval()(y), (y - mean) / std)
    assert [name for name, _ in norm.named_parameters()] == ["bias", "weight"]


def test_dua_follows_samples_by_less_and_less(library: ModuleType) -> None:
    """As the authors' code does, which sets the momentum of torch's layer before each sample."""
    ours, theirs = library.DUABatchNorm(3, dtype=F64), nn.BatchNorm2d(3, dtype=F64)
    momentum = 0.1
    for _ in range(5):
        x = torch.randn(1, 3, 4, 4, dtype=F64) * 2 + 1
        momentum *= 0.94
        theirs.momentum = momentum + 0.005
        torch.testing.assert_close(ours.train()(x), theirs.train()(x))
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    ours.load_state_dict(theirs.state_dict() | {"share": torch.tensor(0.1)})
