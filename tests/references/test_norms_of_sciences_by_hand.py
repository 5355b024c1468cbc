"""Norms of graphs, equivariant and spiking networks, agents and recommenders, beside their code."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from twins import F64, Twin, check_twin

from metanorm import loads

FILES = (
    "equivariant_norm", "graph_contrast_norm", "spiking_norm", "value_norm", "dice",
)  # fmt: skip
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads("\n".join((ROOT / "specs" / f"{f}.norm").read_text("utf-8") for f in FILES))


class SphericalRMS(nn.Module):
    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.affine_bias = nn.Parameter(torch.zeros(channels))
        widths = [2 * degree + 1 for degree in range(lmax + 1)]
        self.degree = torch.repeat_interleave(torch.arange(lmax + 1), torch.tensor(widths))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :1] - x[:, :1].mean(2, keepdim=True), x[:, 1:]], dim=1)
        balance = 1.0 / (2 * self.degree.double() + 1) / (self.lmax + 1)
        square = torch.einsum("nrc,r->nc", x.square(), balance.to(x)).mean(1)
        y = x * (square + 1e-5).pow(-0.5)[:, None, None] * self.affine_weight[self.degree]
        return torch.cat([y[:, :1] + self.affine_bias, y[:, 1:]], dim=1)


class VNBatchNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.norm(x, dim=2) + 1e-6
        return x / norm.unsqueeze(2) * self.bn(norm).unsqueeze(2)


class IrrepBatchNorm(nn.Module):
    def __init__(self, mul: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(mul))
        self.register_buffer("running_var", torch.ones(mul))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.running_var
        if self.training:
            norm = x.square().mean(2).mean(0)
            self.running_var = 0.9 * self.running_var + 0.1 * norm.detach()
        return x * ((norm + 1e-5).pow(-0.5) * self.weight)[:, None]


class RootNode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        std = (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x / std.pow(1 / 3)


class GraphGroup(nn.Module):
    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        rows = [x[batch == graph] for graph in range(int(batch.max()) + 1)]
        normed = [self.gn(r.t()[None])[0].t() for r in rows]
        y = torch.empty_like(x)
        for graph, part in enumerate(normed):
            y = y.index_copy(0, (batch == graph).nonzero().squeeze(1), part)
        return y


class ContraNorm(nn.Module):
    def __init__(self, dim: int, scale: float, temp: float) -> None:
        super().__init__()
        self.scale, self.temp = scale, temp
        self.layernorm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        unit = F.normalize(x, dim=2)
        sim = torch.softmax(unit @ unit.transpose(1, 2) / self.temp, dim=2)
        y: Tensor = self.layernorm(x - self.scale * sim @ x)
        return y


class OverSteps(nn.Module):
    """Batch norm of all steps together, with a weight for each if there are any."""

    def __init__(self, channels: int, steps: int = 0) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.p = nn.Parameter(torch.ones(steps, 1, 1, 1, 1)) if steps else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x.flatten(0, 1)).view(x.shape)
        return y if self.p is None else self.p * y


class OfEachStep(nn.Module):
    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(steps, channels))
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))

    def forward(self, x: Tensor) -> Tensor:
        kept = zip(x, self.running_mean, self.running_var, self.weight)
        return torch.stack([F.batch_norm(s, m, v, w, None, self.training) for s, m, v, w in kept])


class ValueNorm(nn.Module):
    def __init__(self, shape: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_mean_sq", torch.zeros(shape))
        self.register_buffer("debiasing_term", torch.tensor(0.0))

    def statistics(self) -> tuple[Tensor, Tensor]:
        mean = self.running_mean / self.debiasing_term.clamp(min=1e-5)
        square = self.running_mean_sq / self.debiasing_term.clamp(min=1e-5)
        return mean, (square - mean**2).clamp(min=1e-2)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        self.running_mean.mul_(self.beta).add_(x.mean(0) * (1.0 - self.beta))
        self.running_mean_sq.mul_(self.beta).add_((x**2).mean(0) * (1.0 - self.beta))
        self.debiasing_term.mul_(self.beta).add_(1.0 * (1.0 - self.beta))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.update(x)
        mean, var = self.statistics()
        return (x - mean) / torch.sqrt(var)

    def denormalize(self, y: Tensor) -> Tensor:
        mean, var = self.statistics()
        return y * torch.sqrt(var) + mean


class Dice(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(dim, affine=False, eps=1e-9, momentum=0.01)
        self.alpha = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.bn(x))
        return p * x + self.alpha * (1 - p) * x


class Neural(nn.Module):
    """`NeuNorm` of spikingjelly, step by step."""

    def __init__(self, channels: int, height: int, width: int, k: float) -> None:
        super().__init__()
        self.k0, self.k1 = k, (1 - k) / channels**2
        self.w = nn.Parameter(torch.zeros(channels, height, width))

    def forward(self, spikes: Tensor) -> Tensor:
        x, results = torch.zeros((), dtype=spikes.dtype), []
        for step in spikes:
            x = self.k0 * x + self.k1 * step.sum(dim=1, keepdim=True)
            results.append(step - self.w * x)
        return torch.stack(results)


BN = {n: f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
SPIKES, ROWS = (3, 2, 4, 2, 5), (3, 5, 6)
TWINS = (
    Twin("EquivariantRMSNorm", {"degrees": 3, "num_channels": 4},
         lambda: SphericalRMS(2, 4), ((5, 9, 4),)),
    Twin("VNBatchNorm", {"num_features": 4}, lambda: VNBatchNorm(4), ((5, 4, 3, 6),), BN),
    Twin("IrrepBatchNorm", {"mul": 4}, lambda: IrrepBatchNorm(4), ((6, 4, 5),)),
    Twin("RootNodeNorm", {"p": 3}, RootNode, ((5, 6),)),
    Twin("GraphGroupNorm", {"num_groups": 2, "num_channels": 6}, lambda: GraphGroup(2, 6),
         ((7, 6), torch.tensor([0, 1, 0, 2, 1, 1, 2])), {"weight": "gn.weight", "bias": "gn.bias"}),
    Twin("ContraNorm", {"dim": 6, "scale_": 0.4, "temp": 0.5}, lambda: ContraNorm(6, 0.4, 0.5),
         (ROWS,), {n: f"layernorm.{n}" for n in ("weight", "bias")},
         torch_only="matrix products, which torch's BLAS does as fast"),
    Twin("ThresholdDependentBatchNorm", {"num_features": 4}, lambda: OverSteps(4), (SPIKES,), BN),
    Twin("TemporalEffectiveBatchNorm", {"steps": 3, "num_features": 4},
         lambda: OverSteps(4, 3), (SPIKES,), BN),
    Twin("BatchNormThroughTime", {"steps": 3, "num_features": 4},
         lambda: OfEachStep(4, 3), (SPIKES,)),
    Twin("NeuNorm", {"in_channels": 4, "height": 2, "width": 5, "k": 0.8},
         lambda: Neural(4, 2, 5, 0.8), (SPIKES,)),
    Twin("ValueNorm", {"input_shape": 3, "beta": 0.9}, lambda: ValueNorm(3, 0.9), ((6, 3),)),
    Twin("ValueNorm", {"input_shape": 3, "beta": 0.9}, lambda: ValueNorm(3, 0.9), ((6, 3),),
         method="denormalize"),
    Twin("Dice", {"input_dim": 6}, lambda: Dice(6), ((5, 6),),
         {n: f"bn.{n}" for n in ("running_mean", "running_var")}),
)  # fmt: skip


@TARGETS
@pytest.mark.parametrize("twin", TWINS, ids=str)
def test_they_are_what_their_code_computes(twin: Twin, norms: ModuleType, target: str) -> None:
    check_twin(twin, norms, target)


def test_vectors_turn_with_their_input(norms: ModuleType) -> None:
    torch.manual_seed(0)
    norm, x = norms.VNBatchNorm(4, dtype=F64), torch.randn(5, 4, 3, 6, dtype=F64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64))
    turned = torch.einsum("ij,ncjs->ncis", turn, x)
    torch.testing.assert_close(norm(turned), torch.einsum("ij,ncjs->ncis", turn, norm(x)))
