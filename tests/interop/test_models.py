"""Models of transformers, tiny and random, with their norms swapped: the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from metanorm.runtime.swapping.report import Report

pytestmark = pytest.mark.extended

SPECS = """
norm ChannelNorm(eps = 1e-6) {  # layer norm of the channels of an image
  input  x[N, C = normalized_channels, H, W]
  reduce C
  affine C
}
"""


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def channel_norm() -> type[nn.Module]:
    return metanorm.loads(SPECS).ChannelNorm


def tokens() -> dict[str, Tensor]:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": torch.randint(0, 50, (2, 6)), "attention_mask": mask}


def images() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, 32, 32)}


def loss(output: Any) -> Tensor:
    hidden: Tensor = output.last_hidden_state
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    return (hidden * weights).sum() + hidden.square().mean()


def check(
    model: nn.Module,
    norms: Mapping[type[nn.Module], Callable[..., nn.Module]],
    inputs: Callable[[], dict[str, Tensor]],
    count: int,
) -> Report:
    """Outputs, and five steps of an optimizer that was made before the layers were swapped."""
    theirs = copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(m.parameters(), 1e-3) for m in (model, theirs)]
    report = runtime.swap(model, norms)
    assert sum(len(r.names) for r in report.replaced) == count
    batch = inputs()
    with torch.no_grad():
        ours, expected = (m.eval()(**batch).last_hidden_state for m in (model, theirs))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    for _ in range(5):
        batch = inputs()
        losses = []
        for m, optimizer in zip((model, theirs), optimizers):
            optimizer.zero_grad()
            losses.append(loss(m.train()(**batch)))
            losses[-1].backward()
            optimizer.step()
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        ours, expected = (m.eval()(**batch).last_hidden_state for m in (model, theirs))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    assert model.state_dict().keys() == theirs.state_dict().keys()
    return report


def test_bert(transformers: ModuleType, library: ModuleType) -> None:
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=50,
        max_position_embeddings=20,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    check(model, {nn.LayerNorm: library.LayerNorm}, tokens, 5)
    names = [n for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)]
    from transformers.trainer_pt_utils import get_parameter_names

    decayed = get_parameter_names(model, [nn.LayerNorm])
    assert len(names) == 5 and not any(d.startswith(tuple(names)) for d in decayed)


def test_llama(transformers: ModuleType, library: ModuleType) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    config = transformers.LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        vocab_size=50,
    )
    model = transformers.LlamaModel(config)
    check(model, {LlamaRMSNorm: library.RMSNorm}, tokens, 5)
    assert model.norm.eps == config.rms_norm_eps


def test_resnet(transformers: ModuleType, library: ModuleType) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    model = transformers.ResNetModel(config)
    layers = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    theirs = copy.deepcopy(model)
    report = check(model, {nn.BatchNorm2d: library.BatchNorm}, images, layers)
    assert len(report.replaced) == layers > 4
    theirs.load_state_dict(model.state_dict())
    data = [images()["pixel_values"] for _ in range(3)]
    for m in (model, theirs):
        torch.optim.swa_utils.update_bn(data, m)
    torch.testing.assert_close(model.state_dict(), theirs.state_dict(), rtol=1e-3, atol=1e-4)


def test_convnext(
    transformers: ModuleType, library: ModuleType, channel_norm: type[nn.Module]
) -> None:
    """A class of its own for layer norm, over channels that are first here and last there."""
    from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm

    def made(old: Any) -> nn.Module:
        if old.data_format == "channels_first":
            return channel_norm(old.normalized_shape[0], old.eps)
        return library.LayerNorm(old.normalized_shape, old.eps)

    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    model = transformers.ConvNextModel(config)
    only_torchs = runtime.swap(copy.deepcopy(model), {nn.LayerNorm: library.LayerNorm})
    assert {s.reason for s in only_torchs.skipped} == {
        "derives from LayerNorm; make it a key to swap it"
    }
    norm_count = sum(type(m) is ConvNextLayerNorm for m in model.modules())
    assert norm_count > 3
    check(model, {nn.LayerNorm: library.LayerNorm, ConvNextLayerNorm: made}, images, norm_count + 1)
