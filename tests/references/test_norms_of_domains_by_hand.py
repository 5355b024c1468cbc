"""Norms for other domains than that of training, for series and sound, beside their authors' code."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from twins import F64, Twin, check_twin

from metanorm import loads, runtime

FILES = ("test_time_norm", "trans_norm", "series_norm", "frequency_norm", "robust_scaler")
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads("\n".join((ROOT / "specs" / f"{f}.norm").read_text("utf-8") for f in FILES))


def by_channel(t: Tensor) -> Tensor:
    return t.view(1, -1, 1, 1)


class Adapted(nn.BatchNorm2d):
    """Batch norm, in evaluation with statistics between those of the source and of the batch."""

    def __init__(self, channels: int, prior: float | None, alpha: float = 0.0) -> None:
        super().__init__(channels)
        self.prior, self.alpha = prior, alpha

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        share = self.alpha if self.prior is None else self.prior / (self.prior + len(x))
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        mean = share * self.running_mean + (1 - share) * mean
        var = share * self.running_var + (1 - share) * var
        y = (x - by_channel(mean)) / by_channel(var + self.eps).sqrt()
        return y * by_channel(self.weight) + by_channel(self.bias)


class TTN(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.alpha = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        a = self.alpha
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        mixed = a * mean + (1 - a) * self.running_mean
        apart = (mean - self.running_mean).square()
        var = a * var + (1 - a) * self.running_var + a * (1 - a) * apart
        y = (x - by_channel(mixed)) * by_channel(var + self.eps).rsqrt()
        return y * by_channel(self.weight) + by_channel(self.bias)


class RobustBN2d(nn.Module):
    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.ones(channels)),
        )
        self.register_buffer("source_mean", torch.zeros(channels))
        self.register_buffer("source_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.source_mean, self.source_var
        if self.training:
            b_var, b_mean = torch.var_mean(x, dim=[0, 2, 3], unbiased=False)
            mean = (1 - self.momentum) * mean + self.momentum * b_mean
            var = (1 - self.momentum) * var + self.momentum * b_var
            self.source_mean, self.source_var = mean.detach().clone(), var.detach().clone()
        y = (x - by_channel(mean)) / torch.sqrt(by_channel(var) + 1e-5)
        return y * by_channel(self.weight) + by_channel(self.bias)


class InstanceAwareBatchNorm2d(nn.Module):
    def __init__(self, channels: int, k: float) -> None:
        super().__init__()
        self.k, self._bn = k, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        sigma2, mu = torch.var_mean(x, dim=[2, 3], keepdim=True, unbiased=True)
        if self.training:
            self._bn(x)
            sigma2_b, mu_b = torch.var_mean(x, dim=[0, 2, 3], keepdim=True, unbiased=True)
        else:
            mu_b, sigma2_b = by_channel(self._bn.running_mean), by_channel(self._bn.running_var)
        s_mu = torch.sqrt((sigma2_b + 1e-5) / (h * w))
        s_sigma2 = (sigma2_b + 1e-5) * (2 / (h * w - 1)) ** 0.5
        mu_adj = mu_b + softshrink(mu - mu_b, self.k * s_mu)
        sigma2_adj = F.relu(sigma2_b + softshrink(sigma2 - sigma2_b, self.k * s_sigma2))
        y = (x - mu_adj) * torch.rsqrt(sigma2_adj + 1e-5)
        return y * by_channel(self._bn.weight) + by_channel(self._bn.bias)


def softshrink(x: Tensor, by: Tensor) -> Tensor:
    return F.relu(x - by) - F.relu(-(x + by))


class TransNorm2d(nn.Module):
    """Both halves of their batch as two tensors; what is kept moves by `momentum`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.ones(channels)),
        )
        for name in ("source", "target"):
            self.register_buffer(f"running_mean_{name}", torch.zeros(channels))
            self.register_buffer(f"running_var_{name}", torch.ones(channels))

    def forward(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        stats = {}
        for name, x in (("source", source), ("target", target)):
            kept: list[Any] = [getattr(self, f"running_{s}_{name}") for s in ("mean", "var")]
            var, mean = torch.var_mean(x, (0, 2, 3)) if self.training else reversed(kept)
            if self.training:
                kept[0].lerp_(mean.detach(), 0.1)
                kept[1].lerp_(var.detach(), 0.1)
            stats[name] = mean, var
        ratio = {name: mean / torch.sqrt(var + 1e-5) for name, (mean, var) in stats.items()}
        tau = 1 / (1 + (ratio["source"] - ratio["target"]).abs())
        alpha = by_channel((len(tau) * tau / tau.sum()).detach())
        y, z = (
            (x - by_channel(mean)) / torch.sqrt(by_channel(var) + 1e-5) * by_channel(self.weight)
            + by_channel(self.bias)
            for x, (mean, var) in ((target, stats["target"]), (source, stats["source"]))
        )
        return (1 + alpha) * y, (1 + alpha) * z


class DishTS(nn.Module):
    def __init__(self, lookback: int, series: int) -> None:
        super().__init__()
        self.reduce_low = nn.Parameter(torch.empty(series, lookback))
        self.reduce_high = nn.Parameter(torch.empty(series, lookback))
        self.gamma, self.beta = nn.Parameter(torch.ones(series)), nn.Parameter(torch.ones(series))

    def level(self, x: Tensor, mlayer: Tensor) -> tuple[Tensor, Tensor]:
        phi = F.gelu(torch.bmm(x.permute(2, 0, 1), mlayer[..., None])).permute(1, 2, 0)
        return phi, (x - phi).square().sum(1, keepdim=True) / (x.shape[1] - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        phil, xil = self.level(x, self.reduce_low)
        phih, xih = self.level(x, self.reduce_high)
        y = (x - phil) / torch.sqrt(xil + 1e-8) * self.gamma + self.beta
        return y, phih.squeeze(1), torch.sqrt(xih + 1e-8).squeeze(1)

    def denormalize(self, y: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        return (y - self.beta) / self.gamma * scale[:, None] + level[:, None]


class Slices(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = x.reshape(len(x), -1, 3, x.shape[-1])
        mean, std = parts.mean(2, keepdim=True), parts.std(2, keepdim=True) + 1e-5
        return ((parts - mean) / std).reshape(x.shape), mean.squeeze(2), std.squeeze(2)

    def denormalize(self, y: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        parts = y.reshape(len(y), -1, 3, y.shape[-1])
        return (parts * std[:, :, None] + mean[:, :, None]).reshape(y.shape)


class DAINLayer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean_layer = nn.Linear(dim, dim, bias=False)
        self.scaling_layer = nn.Linear(dim, dim, bias=False)
        self.gating_layer = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.mean_layer(x.mean(2))[..., None]
        std = self.scaling_layer(torch.sqrt(x.square().mean(2) + 1e-8))
        x = x / torch.where(std <= 1e-8, torch.ones_like(std), std)[..., None]
        return x * torch.sigmoid(self.gating_layer(x.mean(2)))[..., None]


class SubSpectralNorm(nn.Module):
    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.bands, self.ssnorm = bands, nn.BatchNorm2d(channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        n, c, f, t = x.shape
        y: Tensor = self.ssnorm(x.reshape(n, c * self.bands, f // self.bands, t))
        return y.reshape(n, c, f, t)


class Frequencies(nn.Module):
    """Instance norm of each frequency, and what stands beside it."""

    def __init__(self, share: float, relaxed: bool) -> None:
        super().__init__()
        self.share, self.relaxed = share, relaxed

    def forward(self, x: Tensor) -> Tensor:
        ifn = F.instance_norm(x.transpose(1, 2)).transpose(1, 2)
        if self.relaxed:
            return self.share * F.layer_norm(x, x.shape[1:]) + (1 - self.share) * ifn
        return self.share * x + ifn


class MinMax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        return (x - low) / (high - low + 1e-6)


IMAGE, SERIES, STATE = (4, 6, 2, 5), (3, 9, 2), (3, 2)
SOUND = (3, 4, 6, 5)
INSTANCE = {n: f"_bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
TWO_DOMAINS = {
    f"{short}_running_{s}": f"running_{s}_{name}"
    for short, name in (("t", "target"), ("s", "source")) for s in ("mean", "var")
}  # fmt: skip
LAYERS = {f"{n}_layer": f"{n}_layer.weight" for n in ("mean", "scaling", "gating")}
BANDS = {n: f"ssnorm.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
TWINS = (
    Twin("PriorBatchNorm", {"num_features": 6, "prior": 5}, lambda: Adapted(6, 5), (IMAGE,)),
    Twin("AlphaBatchNorm", {"num_features": 6, "alpha": 0.7},
         lambda: Adapted(6, None, 0.7), (IMAGE,)),
    Twin("TTNBatchNorm", {"num_features": 6}, lambda: TTN(6), (IMAGE,),
         without_twin=frozenset({"source_mean", "source_var"})),
    Twin("RobustBatchNorm", {"num_features": 6, "alpha": 0.2}, lambda: RobustBN2d(6, 0.2), (IMAGE,)),
    Twin("InstanceAwareBatchNorm", {"num_channels": 6, "k": 0.5},
         lambda: InstanceAwareBatchNorm2d(6, 0.5), (IMAGE,), INSTANCE),
    Twin("TransNorm", {"num_features": 6}, lambda: TransNorm2d(6), (IMAGE, (3, 6, 2, 5)),
         TWO_DOMAINS,
         without_twin=frozenset({"running_mean", "running_var"})),
    Twin("DishTS", {"seq_len": 9, "n_series": 2}, lambda: DishTS(9, 2), (SERIES,)),
    Twin("DishTS", {"seq_len": 9, "n_series": 2}, lambda: DishTS(9, 2),
         ((3, 4, 2), STATE, STATE), method="denormalize"),
    Twin("SliceNorm", {"period_len": 3}, Slices, (SERIES,)),
    Twin("SliceNorm", {"period_len": 3}, Slices, ((3, 6, 2), (3, 2, 2), (3, 2, 2)),
         method="denormalize"),
    Twin("DAINLayer", {"input_dim": 4}, lambda: DAINLayer(4), ((3, 4, 7),),
         {**LAYERS, "gating_bias": "gating_layer.bias"}),
    Twin("SubSpectralNorm", {"spec_groups": 3, "num_features": 4},
         lambda: SubSpectralNorm(4, 3), (SOUND,), BANDS),
    Twin("RelaxedFrequencyNorm", {"lambd": 0.3}, lambda: Frequencies(0.3, True), (SOUND,)),
    Twin("ResNorm", {"lambd": 0.3}, lambda: Frequencies(0.3, False), (SOUND,)),
    Twin("MinMaxScaler", {}, MinMax, (SERIES,)),
)  # fmt: skip


@TARGETS
@pytest.mark.parametrize("twin", TWINS, ids=str)
def test_they_are_what_their_code_computes(twin: Twin, norms: ModuleType, target: str) -> None:
    check_twin(twin, norms, target)


def test_layers_of_dain_begin_as_they_do_there(norms: ModuleType) -> None:
    layer = norms.DAINLayer(4)
    assert torch.equal(layer.mean_layer, torch.eye(4))
    assert torch.equal(layer.scaling_layer, torch.eye(4))
    assert layer.gating_layer.abs().max() <= 0.5


@TARGETS
def test_what_is_left_out_does_not_scale(norms: ModuleType, target: str) -> None:
    x = torch.tensor([[1.0, 9.0, 3.0], [2.0, 2.0, 7.0]], dtype=F64)[..., None]
    keep = torch.tensor([[True, False, True], [True, True, False]])[..., None]
    with runtime.use(target):
        y = norms.MinMaxScaler(eps=0)(x, keep.squeeze(-1))
    right = torch.tensor([[0.0, 4.0, 1.0], [0.0, 0.0, 5.0]], dtype=F64)[..., None]
    torch.testing.assert_close(y, right)
