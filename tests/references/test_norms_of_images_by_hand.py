"""Norms of networks for images, beside modules after their authors' code."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from twins import Twin, check_twin

from metanorm import loads

FILES = (
    "spatial_norm", "rep_batch_norm", "representative_batch_norm", "attentive_norm", "self_norm",
    "magnitude_norm", "ada_layer_norm",
)  # fmt: skip


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    lines = "\n".join((ROOT / "specs" / f"{f}.norm").read_text("utf-8") for f in FILES).split("\n")
    uses = dict.fromkeys(line for line in lines if line.startswith("use "))
    return loads("\n".join([*uses, *(line for line in lines if line not in uses)]))


class SpatialNorm(nn.Module):
    def __init__(self, channels: int, code: int, groups: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv_y = nn.Conv2d(code, channels, 1)
        self.conv_b = nn.Conv2d(code, channels, 1)

    def forward(self, f: Tensor, zq: Tensor) -> Tensor:
        y: Tensor = self.norm_layer(f) * self.conv_y(zq) + self.conv_b(zq)
        return y


class RepBN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return (self.bn(x) + self.alpha * x).transpose(1, 2)


class LinearNorm(nn.Module):
    """Two norms, of which the first gives way to the second."""

    def __init__(self, channels: int, warm: int, step: int, r0: float) -> None:
        super().__init__()
        self.register_buffer("warm", torch.tensor(float(warm)))
        self.register_buffer("iter", torch.tensor(float(step)))
        self.step, self.r0 = step, r0
        self.norm1, self.norm2 = nn.LayerNorm(channels, eps=1e-6), RepBN(channels)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.norm2(x)  # type: ignore[no-any-return]
        if self.warm > 0:
            self.warm -= 1
            return self.norm1(x)  # type: ignore[no-any-return]
        share = self.r0 * self.iter / self.step
        self.iter.clamp_(min=1).sub_(1)
        y: Tensor = share * self.norm1(x) + (1 - share) * self.norm2(x)
        return y


class RepresentativeBatchNorm2d(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.center_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale_bias = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.center_weight * F.adaptive_avg_pool2d(x, 1)
        z = F.batch_norm(
            x, self.running_mean, self.running_var, None, None, self.training, 0.1, self.eps
        )
        gate = torch.sigmoid(self.scale_weight * F.adaptive_avg_pool2d(z, 1) + self.scale_bias)
        return gate * z * self.weight[:, None, None] + self.bias[:, None, None]


class AttnBatchNorm2d(nn.BatchNorm2d):
    def __init__(self, channels: int, transforms: int) -> None:
        super().__init__(channels, affine=False)
        self.weight_ = nn.Parameter(torch.empty(transforms, channels))
        self.bias_ = nn.Parameter(torch.empty(transforms, channels))
        self.conv = nn.Conv2d(channels, transforms, 1, bias=False)
        self.bn = nn.BatchNorm2d(transforms)

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
        scored = self.bn(self.conv(mean * (var + 1e-3).rsqrt()))
        share = (F.relu6(scored + 3) / 6).flatten(1)
        weight, bias = share @ self.weight_, share @ self.bias_
        return weight[:, :, None, None] * super().forward(x) + bias[:, :, None, None]


class SelfNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g_fc = nn.Conv1d(channels, channels, kernel_size=2, bias=False, groups=channels)
        self.g_bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        std, mean = (flat.var(2) + 1e-12).sqrt(), flat.mean(2)
        gate = torch.sigmoid(self.g_bn(self.g_fc(torch.stack([mean, std], dim=2))))
        return x * gate[..., None]


class Magnitude(nn.Module):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.register_buffer("magnitude_ema", torch.ones([]))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            now = x.detach().square().mean()
            self.magnitude_ema.copy_(now.lerp(self.magnitude_ema, self.beta))
        return x * self.magnitude_ema.rsqrt()


class PixArtBlock(nn.Module):
    """The norms of a block, and their gates."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.empty(6, dim))

    def parts(self, temb: Tensor) -> tuple[Tensor, ...]:
        return (self.scale_shift_table[None] + temb).chunk(6, dim=1)

    def forward(self, x: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale, gate, *_ = self.parts(temb)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return y, gate.squeeze(1)

    def before_mlp(self, x: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
        *_, shift, scale, gate = self.parts(temb)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return y, gate.squeeze(1)


IMAGE, TOKENS = (3, 6, 2, 4), (3, 5, 6)
REP = {n: f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
PROGRESSIVE = {
    "norm1_weight": "norm1.weight", "norm1_bias": "norm1.bias", "alpha": "norm2.alpha",
    "weight": "norm2.bn.weight", "bias": "norm2.bn.bias", "waiting": "warm", "left": "iter",
    "running_mean": "norm2.bn.running_mean", "running_var": "norm2.bn.running_var",
}  # fmt: skip
SPATIAL = {
    "norm_layer_weight": "norm_layer.weight", "norm_layer_bias": "norm_layer.bias",
    "conv_y": "conv_y.weight", "conv_y_bias": "conv_y.bias",
    "conv_b": "conv_b.weight", "conv_b_bias": "conv_b.bias",
}  # fmt: skip
ATTENTION = {
    "attention": "conv.weight", "weight": "bn.weight", "bias": "bn.bias",
    "score_running_mean": "bn.running_mean", "score_running_var": "bn.running_var",
}  # fmt: skip
SELF = {
    "g_fc": "g_fc.weight", "weight": "g_bn.weight", "bias": "g_bn.bias",
    "running_mean": "g_bn.running_mean", "running_var": "g_bn.running_var",
}  # fmt: skip
TWINS = (
    Twin("SpatialNorm", {"num_groups": 2, "f_channels": 6, "zq_channels": 3},
         lambda: SpatialNorm(6, 3, 2), (IMAGE, (3, 3, 2, 4)), SPATIAL,
         torch_only="matrix products, which torch's BLAS does as fast"),
    Twin("RepBN", {"channels": 6}, lambda: RepBN(6), (TOKENS,), REP),
    Twin("PRepBN", {"channels": 6, "warm": 2, "step": 3, "r0": 0.8},
         lambda: LinearNorm(6, 2, 3, 0.8), (TOKENS,), PROGRESSIVE),
    Twin("RepresentativeBatchNorm", {"num_features": 6},
         lambda: RepresentativeBatchNorm2d(6), (IMAGE,)),
    Twin("AttnBatchNorm", {"num_features": 6, "num_affine_trans": 3},
         lambda: AttnBatchNorm2d(6, 3), (IMAGE,), ATTENTION,
         without_twin=frozenset({"scored_running_mean", "scored_running_var"})),
    Twin("SelfNorm", {"chan_num": 6}, lambda: SelfNorm(6), (IMAGE,), SELF),
    Twin("MagnitudeNorm", {"magnitude_ema_beta": 0.7}, lambda: Magnitude(0.7), (IMAGE,)),
    Twin("AdaLayerNormSingle", {"dim": 6}, lambda: PixArtBlock(6), (TOKENS, (3, 6, 6))),
    Twin("AdaLayerNormSingle", {"dim": 6}, lambda: PixArtBlock(6), (TOKENS, (3, 6, 6)),
         method="before_mlp"),
)  # fmt: skip


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("twin", TWINS, ids=str)
def test_they_are_what_their_code_computes(twin: Twin, norms: ModuleType, target: str) -> None:
    check_twin(twin, norms, target, calls=6 if twin.norm == "PRepBN" else 3)
