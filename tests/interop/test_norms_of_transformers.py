"""Norms of the library beside classes of transformers whose checkpoints they load."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.extended

# The norm here, the class there, and the arguments of both.
PAIRS: tuple[tuple[str, str, tuple[Any, ...], dict[str, Any], tuple[Any, ...]], ...] = (
    ("GatedRMSNorm", "qwen3_next.Qwen3NextRMSNormGated", (64,), {}, (64,)),
    ("GatedRMSNorm", "olmo_hybrid.OlmoHybridRMSNormGated", (64,), {}, (64,)),
    ("GatedRMSNorm", "kimi_linear.KimiLinearRMSNormGated", (64,), {"activation": "sigmoid"}, (64,)),
    ("MambaGatedRMSNorm", "mamba2.MambaRMSNormGated", (16, 64), {}, (64, 16)),
    ("MambaGatedRMSNorm", "nemotron_h.NemotronHRMSNormGated", (64, 64), {}, (64, 64)),
    ("LayerNorm1P", "nemotron.NemotronLayerNorm1P", (64,), {}, (64,)),
    ("HeadLayerNorm", "chameleon.ChameleonLayerNorm", (4, 64), {}, ((4, 64),)),
    ("HeadLayerNorm", "cohere.CohereLayerNorm", (4, 64), {"bias": False}, ((4, 64),)),
)
# What is rounded once here and more often there, or the other way round: a few bits apart.
OTHERWISE = {"KimiLinearRMSNormGated", "NemotronLayerNorm1P", "ChameleonLayerNorm"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1])
def test_checkpoints_and_values_are_those_of_the_class(
    pair: tuple[Any, ...], dtype: torch.dtype, library: ModuleType
) -> None:
    pytest.importorskip("transformers")
    name, path, ours, switches, arguments = pair
    model, _, layer = path.partition(".")
    modeling = import_module(f"transformers.models.{model}.modeling_{model}")
    theirs: nn.Module = getattr(modeling, layer)(*arguments).to(dtype)
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    norm = getattr(library, name)(*ours, **switches, dtype=dtype)
    norm.load_state_dict(theirs.state_dict())
    gated = "Gated" in name
    x = torch.randn(2, 3, 4, 64).to(dtype)
    inputs = [x.requires_grad_(), *([torch.randn_like(x).requires_grad_()] if gated else [])]
    y, right = norm(*inputs), theirs(*inputs)
    cotangent = torch.randn_like(y)
    gradients = torch.autograd.grad(y, [*inputs, *norm.parameters()], cotangent)
    wanted = torch.autograd.grad(right, [*inputs, *theirs.parameters()], cotangent)
    assert y.dtype == right.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(y, right)
        torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-4)
        return
    differ = (y != right).float().mean().item()
    assert differ < (0.5 if layer in OTHERWISE else 0.01)
    torch.testing.assert_close(y, right, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(gradients, wanted, rtol=5e-2, atol=5e-2)
