"""What torch's own tools make of a norm whose class derives from a layer of torch."""

from __future__ import annotations

import copy
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecision
from torch.nn.utils import parametrize, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, update_bn

import metanorm

RENAMED = """
norm Renamed(epsilon = 1e-3, rate = 0.2) {
  input  x[N, C = channels, H, W]
  let    m = mean(x over N, H, W track rate)
  let    v = var(x over N, H, W track rate)
  output affine((x - m) / sqrt(v + epsilon) per C)
}
"""


@pytest.fixture(scope="module", params=["named as in torch", "renamed"])
def batch_norm(request: pytest.FixtureRequest, library: ModuleType) -> type[nn.Module]:
    """A batch norm, and one that has its own names for everything."""
    if request.param == "renamed":
        return metanorm.loads(RENAMED).Renamed
    return library.BatchNorm


def networks(batch_norm: type[nn.Module]) -> tuple[nn.Sequential, nn.Sequential]:
    """A small network, and the same one in torch's layers."""
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, 1e-3, 0.2), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for tensor in (*theirs[1].parameters(), theirs[1].running_mean, theirs[1].running_var):
            tensor.uniform_(0.5, 1.5)
    ours = copy.deepcopy(theirs)
    ours[1] = batch_norm(4)
    ours[1].eps, ours[1].momentum = 1e-3, 0.2
    ours[1].load_state_dict(theirs[1].state_dict())
    return ours, theirs


def images() -> Tensor:
    return torch.randn(3, 3, 6, 6) * 2 + 1


def test_statistics_of_an_averaged_model(batch_norm: type[nn.Module]) -> None:
    data = [images() for _ in range(3)]
    averages = [AveragedModel(model) for model in networks(batch_norm)]
    for averaged in averages:
        update_bn(data, averaged)
    ours, theirs = (averaged.eval() for averaged in averages)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert ours.module[1].momentum == 0.2
    torch.testing.assert_close(ours(data[0]), theirs(data[0]))


def test_synchronization_converts_what_is_batch_norm(batch_norm: type[nn.Module]) -> None:
    """As its statistics stand; without several processes it is the same layer as before."""
    ours, theirs = networks(batch_norm)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(ours)
    assert type(converted[1]) is nn.SyncBatchNorm
    assert (converted[1].eps, converted[1].momentum, converted[1].num_features) == (1e-3, 0.2, 4)
    assert converted[1].weight is ours[1].weight
    x = images()
    torch.testing.assert_close(converted.eval()(x), theirs.eval()(x))


def test_synchronization_leaves_what_is_more(library: ModuleType) -> None:
    model = nn.Sequential(library.SwitchNorm(3), library.BatchRenorm(3), library.InstanceNorm(3))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert [type(a) for a in converted] == [type(a) for a in model]


def test_batch_norm_without_statistics_for_gradients_of_samples(
    batch_norm: type[nn.Module],
) -> None:
    ours, theirs = networks(batch_norm)
    for model in (ours, theirs):
        torch.func.replace_all_batch_norm_modules_(model)
    x = images()
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


def test_fusion_with_a_convolution(batch_norm: type[nn.Module]) -> None:
    ours, _ = networks(batch_norm)
    x = images()
    expected = ours.eval()[:2](x)
    torch.testing.assert_close(fuse_conv_bn_eval(ours[0], ours[1])(x), expected)


def test_layers_frozen_by_class(batch_norm: type[nn.Module]) -> None:
    ours, theirs = networks(batch_norm)
    x = images()
    for model in (ours, theirs):
        model.train()
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval().requires_grad_(False)
        model(x).sum().backward()
    assert ours[1].weight.grad is None
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_precision_that_batch_norms_are_left_out_of(batch_norm: type[nn.Module]) -> None:
    assert issubclass(batch_norm, tuple(MixedPrecision()._module_classes_to_ignore))


def test_no_weight_decay_for_norms_by_class(library: ModuleType) -> None:
    """The rule of transformers' Trainer: all parameters but those of these layers."""
    model = nn.ModuleDict({"linear": nn.Linear(3, 3), "norm": library.LayerNorm(3)})
    decayed = [
        f"{name}.{parameter}"
        for name, layer in model.items()
        if not isinstance(layer, nn.LayerNorm)
        for parameter, _ in layer.named_parameters()
    ]
    assert decayed == ["linear.weight", "linear.bias"]


def test_first_values_by_class(library: ModuleType) -> None:
    """The idiom of most model files."""
    norms = [library.LayerNorm(3), library.GroupNorm(1, 3), library.BatchNorm(3)]
    for layer in norms:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)):
            nn.init.constant_(layer.weight, 1)
            nn.init.constant_(layer.bias, 0)
    for layer in norms:
        assert layer.weight.eq(1).all() and layer.bias.eq(0).all()


def test_parametrized_and_pruned(library: ModuleType) -> None:
    theirs = nn.LayerNorm(4)
    ours = library.LayerNorm(4)
    x = torch.randn(2, 4)
    for layer in (ours, theirs):
        nn.init.constant_(layer.weight, 0.5)
        parametrize.register_parametrization(layer, "weight", nn.Softplus())
        prune.l1_unstructured(layer, "bias", 0.5)
    assert isinstance(ours, nn.LayerNorm)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.filterwarnings(
    "ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per"
)
def test_quantization_passes_over_a_norm(library: ModuleType) -> None:
    """It takes layers by their very class: a norm stays as it is, and its numbers with it."""
    model = nn.Sequential(nn.Linear(4, 4), library.LayerNorm(4)).eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert type(quantized[1]) is library.LayerNorm
    x = torch.randn(2, 4)
    torch.testing.assert_close(quantized[1](x), nn.LayerNorm(4)(x))
