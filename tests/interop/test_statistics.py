"""`runtime.update_statistics`: running statistics of any norm, anew from data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanorm
from metanorm import runtime

MORE = """
norm Hybrid(slow = 0.01, fast = 0.5) {
  input  x[N, C = num_features, *S]
  let    batch = (x - mean(x over N, *S track slow)) / sqrt(var(x over N, *S track slow) + 1e-5)
  let    inst = (x - mean(x over *S track fast)) / sqrt(var(x over *S track 0.3) + 1e-5)
  output batch + inst
}
"""


def batches(count: int = 4) -> list[Tensor]:
    return [torch.randn(5, 3, 6) * 2 + i for i in range(count)]


def averages(data: list[Tensor]) -> list[Tensor]:
    """What the buffers of `Hybrid` hold in the end, by hand."""
    over_batch = [
        torch.stack([x.mean((0, 2)) for x in data]),
        torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in data]),
    ]
    of_samples = [
        torch.stack([x.mean(2).mean(0) for x in data]),
        torch.stack([x.var(2).mean(0) for x in data]),
    ]
    return [values.mean(0) for values in (*over_batch, *of_samples)]


@pytest.fixture(scope="module")
def hybrid() -> type[nn.Module]:
    return metanorm.loads(MORE).Hybrid


def test_each_statistic_is_the_average_of_all_batches(hybrid: type[nn.Module]) -> None:
    norm = hybrid(3)
    model = nn.Sequential(norm, nn.Dropout()).eval()
    norm(torch.randn(2, 3, 4))
    data = batches()
    runtime.update_statistics([(x, "a label") for x in data], model)
    statistics = [b for b in norm.buffers() if b.is_floating_point()]
    for statistic, expected in zip(statistics, averages(data), strict=True):
        torch.testing.assert_close(statistic, expected)
    assert norm.num_batches_tracked.item() == len(data)
    assert not model.training and not model[1].training
    assert (norm.slow, norm.fast) == (0.01, 0.5)


def test_as_torch_has_it(library: ModuleType) -> None:
    data = batches()
    models = [nn.Sequential(library.BatchNorm(3)), nn.Sequential(nn.BatchNorm1d(3))]
    for model in models:
        runtime.update_statistics(data, model, device="cpu")
    theirs = nn.Sequential(nn.BatchNorm1d(3))
    torch.optim.swa_utils.update_bn(data, theirs)
    for model in models:
        assert model[0].momentum == 0.1
        torch.testing.assert_close(model.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", ["SwitchNorm", "MaskedBatchNorm"])
def test_hybrids_of_the_library(name: str, library: ModuleType) -> None:
    norm = getattr(library, name)(3)
    data = [x[..., None] for x in batches()]
    runtime.update_statistics([{"x": x} for x in data], norm)
    mean = torch.stack([x.mean((0, 2, 3)) for x in data]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)


def failing(data: list[Tensor]) -> Iterator[Tensor]:
    yield from data
    raise OSError("the disk is full")


@pytest.mark.parametrize("loader", [[], failing(batches(2))], ids=["no batch", "a failing loader"])
def test_a_failure_leaves_all_as_it_was(
    loader: Iterator[Tensor], hybrid: type[nn.Module], library: ModuleType
) -> None:
    model = nn.Sequential(hybrid(3), nn.BatchNorm1d(3), library.BatchRenorm(3))
    model(torch.randn(4, 3, 5))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((ValueError, OSError)):
        runtime.update_statistics(loader, model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not model.training and model[1].momentum == 0.1


def test_buffers_that_a_spec_updates_move_by_its_rule(library: ModuleType) -> None:
    norm, trained = library.BatchRenorm(3), library.BatchRenorm(3)
    data = batches()
    runtime.update_statistics(data, norm.eval())
    for x in data:
        trained(x)
    torch.testing.assert_close(norm.state_dict(), trained.state_dict())


def test_instance_norm_which_counts_no_batches(library: ModuleType) -> None:
    data = batches()
    mean = torch.stack([x.mean(2).mean(0) for x in data]).mean(0)
    for cls in (library.InstanceNorm, nn.InstanceNorm1d):
        norm = cls(3, track_running_stats=True)
        runtime.update_statistics(data, norm)
        torch.testing.assert_close(norm.running_mean, mean)
        assert norm.momentum == 0.1


UNCOUNTED = """
norm Samples(momentum = 0.1) {
  input  x[N, C = c, *S]
  output x - mean(x over *S track momentum)
}
norm Fixed { input x[N, C = c, *S]  output x - mean(x over *S track 0.3) }
norm Two(slow = 0.01) {
  input  x[N, C = c, *S]
  output (x - mean(x over *S track slow)) / sqrt(var(x over *S track 0.9) + 1e-5)
}
"""


@pytest.fixture(scope="module")
def uncounted() -> ModuleType:
    return metanorm.loads(UNCOUNTED)


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize("name", ["Samples", "Fixed", "Two"])
def test_norms_that_count_no_batches(name: str, target: Any, uncounted: ModuleType) -> None:
    """Neither of them is a layer of torch."""
    norm, data = getattr(uncounted, name)(3), batches()
    with runtime.use(target):
        runtime.update_statistics(data, norm)
    expected = {
        "running_mean": torch.stack([x.mean(2).mean(0) for x in data]).mean(0),
        "running_var": torch.stack([x.var(2).mean(0) for x in data]).mean(0),
    }
    buffers = [(n, b) for n, b in norm.named_buffers() if b.is_floating_point()]
    assert buffers
    for buffer, value in buffers:
        kind = "running_var" if buffer.endswith("var") else "running_mean"
        torch.testing.assert_close(value, expected[kind])
    assert norm.num_batches_tracked.item() == 0


def test_a_model_that_another_thread_trains_keeps_its_momentum(uncounted: ModuleType) -> None:
    data, trained, alone = batches(), uncounted.Fixed(3), uncounted.Fixed(3)

    def train_beside() -> Iterator[Tensor]:
        for x in data:
            thread = threading.Thread(target=trained, args=(x,))
            thread.start()
            thread.join()
            yield x

    runtime.update_statistics(train_beside(), uncounted.Fixed(3))
    for x in data:
        alone(x)
    torch.testing.assert_close(trained.state_dict(), alone.state_dict())


def test_a_compiled_model_averages_too(uncounted: ModuleType) -> None:
    data, norm = batches(), uncounted.Fixed(3)
    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    compiled(data[0])
    runtime.update_statistics(data, compiled)
    mean = torch.stack([x.mean(2).mean(0) for x in data]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    compiled(data[0])
    torch.testing.assert_close(norm.running_mean, 0.7 * mean + 0.3 * data[0].mean(2).mean(0))
