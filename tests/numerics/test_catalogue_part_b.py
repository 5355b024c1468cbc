"""Norms from the catalogue against torch, PyG, and a few lines of plain torch from their papers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

F64 = torch.float64
BATCH = torch.tensor([0, 0, 0, 2, 2, 2, 2, 3, 3, 3])  # graph 1 has no nodes
TYPES = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1, 0, 1])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 1, 1]]).bool()

Reference = Callable[..., "Tensor | tuple[Tensor, ...]"]


@dataclass(frozen=True)
class Case:
    """A norm, its arguments, shapes of its float inputs, and its paper as a function of it."""

    norm: str
    arguments: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    reference: Reference
    more: tuple[Tensor, ...] = ()
    training: bool = field(default=True)

    def __str__(self) -> str:
        return self.norm + ("" if self.training else "-eval")


def per_channel(v: Tensor) -> Tensor:
    """[C] beside [N, C, H, W]."""
    return v[:, None, None]


def standard(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    return (x - mean) / (var + eps).sqrt()


def evo_norm_b0(m: nn.Module, x: Tensor) -> Tensor:
    batch = (x.var((0, 2, 3), correction=0, keepdim=True) + m.eps).sqrt()
    inst = per_channel(m.v) * x + (x.var((2, 3), correction=0, keepdim=True) + m.eps).sqrt()
    return x / torch.maximum(batch, inst) * per_channel(m.weight) + per_channel(m.bias)


def filter_response(m: nn.Module, x: Tensor) -> Tensor:
    nu2 = x.square().mean((2, 3), keepdim=True)
    z = x * torch.rsqrt(nu2 + m.eps + per_channel(m.eps_l.abs()))
    return torch.maximum(
        z * per_channel(m.weight) + per_channel(m.bias), per_channel(m.tau).expand_as(x)
    )


def batch_renorm(m: nn.Module, x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    std = (var + m.eps).sqrt()
    r = (std / m.running_std).clamp(1 / m.rmax, m.rmax).detach()
    d = ((mean - m.running_mean) / m.running_std).clamp(-m.dmax, m.dmax).detach()
    z = (x - per_channel(mean)) / per_channel(std) * per_channel(r) + per_channel(d)
    return z * per_channel(m.weight) + per_channel(m.bias)


def ada_in(m: nn.Module, content: Tensor, style: Tensor) -> Tensor:
    var, mean = torch.var_mean(style, 2, correction=0, keepdim=True)
    return standard(content, (2, 3), m.eps) * (var + m.eps).sqrt()[..., None] + mean[..., None]


def spade(m: nn.Module, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True, eps=m.eps) * (1 + gamma) + beta


def ada_layer_norm_zero(m: nn.Module, x: Tensor, condition: Tensor) -> tuple[Tensor, ...]:
    weight = torch.cat([m.to_shift, m.to_scale, m.to_gate])
    bias = torch.cat([m.shift_bias, m.scale_bias, m.gate_bias])
    shift, scale, gate = F.linear(F.silu(condition), weight, bias).chunk(3, 1)
    y = F.layer_norm(x, (x.shape[-1],), eps=m.eps)
    return y * (1 + scale[:, None]) + shift[:, None], gate


def batch_channel_norm(m: nn.Module, x: Tensor) -> Tensor:
    y = F.batch_norm(x, None, None, m.batch_weight, m.batch_bias, training=True, eps=m.eps)
    y = F.group_norm(y, m.num_groups, eps=m.eps).unflatten(1, (m.num_groups, -1))
    weight, bias = (v[:, None, None, None] for v in (m.weight, m.bias))
    return (y * weight + bias).flatten(1, 2)


def estimated_batch_channel_norm(m: nn.Module, x: Tensor) -> Tensor:
    """Estimates of after the batch, without a gradient; squares are about the mean of before."""
    old, dims = m.running_mean.detach().clone(), (0, 2, 3)
    seen = x.detach()
    mean = old + m.speed * (seen.mean(dims) - old)
    square = (seen - per_channel(old)).square().mean(dims)
    var = m.running_var + m.speed * (square - m.running_var)
    y = F.batch_norm(x, mean, var, m.batch_weight, m.batch_bias, training=False, eps=m.eps)
    y = F.group_norm(y, m.num_groups, eps=m.eps).unflatten(1, (m.num_groups, -1))
    weight, bias = (v[:, None, None, None] for v in (m.weight, m.bias))
    return (y * weight + bias).flatten(1, 2)


def iter_norm(m: nn.Module, x: Tensor) -> Tensor:
    """The authors' steps, group by group."""
    parts = []
    for part in x.chunk(m.num_groups, 1):
        flat = part.transpose(0, 1).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        eye = torch.eye(len(flat), dtype=x.dtype)
        sigma = flat @ flat.T / flat.shape[1] + m.eps * eye
        p = eye
        for _ in range(m.steps):
            p = 1.5 * p - 0.5 * torch.linalg.matrix_power(p, 3) @ sigma / sigma.trace()
        white = p @ flat / sigma.trace().sqrt()
        parts.append(white.unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1))
    return torch.cat(parts, 1) * per_channel(m.weight) + per_channel(m.bias)


def mode_norm(m: nn.Module, x: Tensor) -> Tensor:
    gates = F.linear(x.mean((2, 3)), m.gate_weight, m.gate_bias).softmax(1)
    y = torch.zeros_like(x)
    for gate in gates.T:
        share = gate[:, None, None, None]
        n = gate.sum() * x.shape[2] * x.shape[3]
        mean = (share * x).sum((0, 2, 3), keepdim=True) / n
        var = (share * (x - mean).square()).sum((0, 2, 3), keepdim=True) / n
        y = y + share * (x - mean) / (var + m.eps).sqrt()
    return y * per_channel(m.weight) + per_channel(m.bias)


def power_norm(m: nn.Module, x: Tensor) -> Tensor:
    return x / (x.square().mean((0, 1)) + m.eps).sqrt() * m.weight + m.bias


def masked_layer_norm(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for row, valid in zip(x, mask):
        var, mean = torch.var_mean(row[valid], correction=0)
        rows.append((row - mean) / (var + m.eps).sqrt())
    return torch.stack(rows) * m.weight + m.bias


def masked_instance_norm(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for row, valid in zip(x, mask):
        var, mean = torch.var_mean(row[:, valid], 1, correction=0, keepdim=True)
        rows.append((row - mean) / (var + m.eps).sqrt())
    return torch.stack(rows)


def sphere_step(m: nn.Module, h: Tensor, heading: Tensor) -> Tensor:
    rate = (m.alpha * (m.rate / h.shape[-1] ** -0.5)).abs()
    a, b = F.normalize(h, dim=-1), F.normalize(heading, dim=-1)
    return F.normalize(a + rate * (b - a), dim=-1)


def qk_norm(m: nn.Module, q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    return m.g * F.normalize(q, dim=-1), F.normalize(k, dim=-1)


def qk_rms_norm(m: nn.Module, q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    size = q.shape[-1:]
    return F.rms_norm(q, size, m.q_weight, m.eps), F.rms_norm(k, size, m.k_weight, m.eps)


def partial_rms_norm(m: nn.Module, x: Tensor) -> Tensor:
    """As in bzhangGo/rmsnorm: the norm of the first k, over the root of k."""
    first = x[..., : int(x.shape[-1] * m.p)]
    return m.scale * x / (first.norm(2, -1, keepdim=True) * first.shape[-1] ** -0.5 + m.eps)


def extended_batch_norm(m: nn.Module, x: Tensor) -> Tensor:
    centred = x - x.mean((0, 2, 3), keepdim=True)
    var = x.var(correction=0)
    return centred / (var + m.eps).sqrt() * per_channel(m.weight) + per_channel(m.bias)


def frozen_batch_norm(m: nn.Module, x: Tensor) -> Tensor:
    z = (x - per_channel(m.running_mean)) / per_channel(m.running_var + m.eps).sqrt()
    return z * per_channel(m.weight.clone()) + per_channel(m.bias)


def domain_batch_norm(m: nn.Module, x: Tensor, domain: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for d in domain.unique():
        normalized = F.batch_norm(x[domain == d], None, None, m.weight, m.bias, True, 0.1, m.eps)
        y = y.index_copy(0, (domain == d).nonzero().flatten(), normalized)
    return y


def pair_norm_si(m: nn.Module, x: Tensor, batch: Tensor) -> Tensor:
    layer = pyg.PairNorm(m.scale, scale_individually=True, eps=m.eps)
    return layer(x, batch)


def message_norm(m: nn.Module, x: Tensor, msg: Tensor) -> Tensor:
    layer = pyg.MessageNorm(learn_scale=m.learn_scale).double()
    if m.learn_scale:
        layer.scale = nn.Parameter(m.scale.detach().view(1))
    return layer(x, msg)


def diff_group_norm(m: nn.Module, x: Tensor) -> Tensor:
    layer = pyg.DiffGroupNorm(x.shape[1], len(m.lin), m.lamda, m.eps).double()
    with torch.no_grad():
        layer.lin.weight.copy_(m.lin)
        layer.norm.weight.copy_(m.weight.T.flatten())
        layer.norm.bias.copy_(m.bias.T.flatten())
    return layer(x)


def loaded(layer: nn.Module, m: nn.Module) -> nn.Module:
    """A known layer with the state of ours."""
    layer = layer.double().train(m.training)
    layer.load_state_dict(m.state_dict())
    return layer


IMAGE = (4, 6, 3, 5)
CASES = (
    Case("DynamicTanh", {"normalized_shape": 5}, ((3, 4, 5),),
         lambda m, x: m.weight * torch.tanh(m.alpha * x) + m.bias),
    Case("DynamicErf", {"normalized_shape": 5}, ((3, 4, 5),),
         lambda m, x: m.weight * torch.erf(m.alpha * x + m.shift) + m.bias),
    Case("PartialRMSNorm", {"dim": 10, "p": 0.35}, ((3, 4, 10),), partial_rms_norm),
    Case("EvoNormB0", {"num_features": 6}, (IMAGE,), evo_norm_b0),
    Case("FilterResponseNormLearnedEps", {"num_features": 6}, (IMAGE,), filter_response),
    Case("BatchRenorm", {"num_features": 6, "rmax": 1.2, "dmax": 0.3}, (IMAGE,), batch_renorm),
    Case("AdaIN", {}, (IMAGE, (4, 6, 7)), ada_in),
    Case("Spade", {"num_features": 6}, (IMAGE, IMAGE, IMAGE), spade),
    Case("AdaLayerNormZero", {"dim": 5, "condition_dim": 3}, ((2, 4, 5), (2, 3)),
         ada_layer_norm_zero),
    Case("BatchChannelNorm", {"num_channels": 6, "num_groups": 3}, (IMAGE,), batch_channel_norm),
    Case("EstimatedBatchChannelNorm", {"num_channels": 6, "num_groups": 3}, (IMAGE,),
         estimated_batch_channel_norm),
    Case("IterNorm", {"num_features": 6, "num_groups": 2}, (IMAGE,), iter_norm),
    Case("ModeNorm", {"num_features": 6, "num_modes": 3}, (IMAGE,), mode_norm),
    Case("PowerNormV", {"num_features": 6}, ((4, 5, 6),), power_norm),
    Case("MaskedLayerNorm", {"num_features": 6}, ((4, 5, 6),), masked_layer_norm, (MASK,)),
    Case("MaskedInstanceNorm", {"num_features": 6}, ((4, 6, 5),), masked_instance_norm, (MASK,)),
    Case("SphereStep", {"dim": 5}, ((2, 3, 5), (2, 3, 5)), sphere_step),
    Case("QKNorm", {}, ((2, 3, 4, 5), (2, 3, 4, 5)), qk_norm),
    Case("QKRMSNorm", {"head_dim": 5}, ((2, 3, 4, 5), (2, 3, 4, 5)), qk_rms_norm),
    Case("QKNorm", {}, ((2, 6, 4, 5), (2, 3, 7, 5)), qk_norm),
    Case("QKRMSNorm", {"head_dim": 5}, ((2, 6, 4, 5), (2, 3, 7, 5)), qk_rms_norm),
    Case("ExtendedBatchNorm", {"num_features": 6}, (IMAGE,), extended_batch_norm),
    Case("FrozenBatchNorm", {"num_features": 6}, (IMAGE,), frozen_batch_norm),
    Case("DomainBatchNorm", {"num_domains": 3, "num_features": 6}, (IMAGE,), domain_batch_norm,
         (torch.tensor([2, 0, 2, 0]),)),
    Case("MeanSubtractionNorm", {}, ((10, 6),),
         lambda m, x, batch: pyg.MeanSubtractionNorm()(x, batch), (BATCH,)),
    Case("GraphSizeNorm", {}, ((10, 6),),
         lambda m, x, batch: pyg.GraphSizeNorm()(x, batch), (BATCH,)),
    Case("PairNormSI", {}, ((10, 6),), pair_norm_si, (BATCH,)),
    Case("PairNorm", {"scale": 2, "scale_individually": True}, ((10, 6),), pair_norm_si, (BATCH,)),
    Case("MessageNorm", {}, ((10, 6), (10, 6)), message_norm),
    Case("MessageNorm", {"learn_scale": True}, ((10, 6), (10, 6)), message_norm),
    Case("DiffGroupNorm", {"in_channels": 6, "groups": 3}, ((10, 6),), diff_group_norm),
    Case("GraphLayerNorm", {"in_channels": 6}, ((10, 6),),
         lambda m, x, batch: loaded(pyg.LayerNorm(6), m)(x, batch), (BATCH,)),
    Case("GraphLayerNorm", {"in_channels": 6, "mode": "node"}, ((10, 6),),
         lambda m, x, batch: loaded(pyg.LayerNorm(6, mode="node"), m)(x, batch), (BATCH,)),
    Case("GraphInstanceNorm", {"in_channels": 6, "affine": True}, ((10, 6),),
         lambda m, x, batch: loaded(pyg.InstanceNorm(6, affine=True), m)(x, batch), (BATCH,)),
    Case("HeteroBatchNorm", {"num_types": 2, "in_channels": 6}, ((10, 6),),
         lambda m, x, kind: loaded(pyg.HeteroBatchNorm(6, 2), m)(x, kind), (TYPES,)),
    Case("HeteroBatchNorm", {"num_types": 2, "in_channels": 6}, ((10, 6),),
         lambda m, x, kind: loaded(pyg.HeteroBatchNorm(6, 2), m)(x, kind), (TYPES,), False),
    Case("HeteroBatchNorm", {"num_types": 2, "in_channels": 6, "affine": False}, ((10, 6),),
         lambda m, x, kind: loaded(pyg.HeteroBatchNorm(6, 2, affine=False), m)(x, kind), (TYPES,)),
    Case("HeteroLayerNorm", {"num_types": 2, "in_channels": 6}, ((10, 6),),
         lambda m, x, kind: loaded(pyg.HeteroLayerNorm(6, 2), m)(x, kind), (TYPES,)),
    Case("HeteroLayerNorm", {"num_types": 2, "in_channels": 6, "affine": False}, ((10, 6),),
         lambda m, x, kind: pyg.HeteroLayerNorm(6, 2, affine=False)(x, kind), (TYPES,)),
)  # fmt: skip


@pytest.mark.parametrize("name", ["HeteroBatchNorm", "HeteroLayerNorm"])
def test_arguments_by_position_are_those_of_pyg(name: str, library: ModuleType) -> None:
    ours, theirs = (getattr(package, name)(6, 2) for package in (library, pyg))
    shapes = [[tuple(p.shape) for p in norm.parameters()] for norm in (ours, theirs)]
    assert shapes[0] == shapes[1]


def make_norm(case: Case, library: ModuleType) -> nn.Module:
    """The norm in float64, with parameters and buffers away from where they begin."""
    norm: nn.Module = getattr(library, case.norm)(**case.arguments).double()
    with torch.no_grad():
        for value in (*norm.parameters(), *norm.buffers()):
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return norm.train(case.training)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_the_reference(case: Case, library: ModuleType) -> None:
    torch.manual_seed(0)
    norm = make_norm(case, library)
    inputs = [(torch.randn(shape, dtype=F64) * 2 + 1).requires_grad_() for shape in case.shapes]
    right = case.reference(norm, *inputs, *case.more)  # first: our call moves running statistics
    actual = norm(*inputs, *case.more)
    gradients = []
    for outputs in (actual, right):
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        generator = torch.Generator().manual_seed(1)
        seeds = [torch.randn(y.shape, generator=generator, dtype=F64) for y in outputs]
        gradients.append(torch.autograd.grad(outputs, inputs, seeds))
    torch.testing.assert_close(
        tuple(actual) if not isinstance(actual, Tensor) else actual, right, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


def test_batch_renorm_without_bounds_is_running_statistics(library: ModuleType) -> None:
    torch.manual_seed(0)
    norm = library.BatchRenorm(6, rmax=1e9, dmax=1e9).double()
    for _ in range(5):
        norm(torch.randn(IMAGE, dtype=F64) * 2 + 1)
    x = torch.randn(IMAGE, dtype=F64)
    right = norm.eval()(x)
    torch.testing.assert_close(norm.train()(x), right)


@pytest.mark.parametrize("name", ["FrozenBatchNorm", "AdaLayerNormZero"])
def test_what_begins_as_the_identity_does(name: str, library: ModuleType) -> None:
    """Alone, or as the residual branch that its gate closes (D13 of the catalogue)."""
    torch.manual_seed(0)
    if name == "FrozenBatchNorm":
        x = torch.randn(IMAGE)
        torch.testing.assert_close(library.FrozenBatchNorm(6)(x), x)
    else:
        x = torch.randn(2, 4, 5)
        y, gate = library.AdaLayerNormZero(5, 3)(x, torch.randn(2, 3))
        torch.testing.assert_close(x + gate[:, None] * y, x)


def test_iter_norm_whitens(library: ModuleType) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 6, 8, dtype=F64) @ torch.randn(8, 8, dtype=F64)
    y = library.IterNorm(6, steps=12).double()(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(y), torch.eye(6, dtype=F64), rtol=0, atol=1e-2)


# ---- whitening


def covariance(x: Tensor, groups: int) -> Tensor:
    """[..., groups, d, d] of [..., C, n], about the means."""
    centred = (x - x.mean(-1, keepdim=True)).unflatten(-2, (groups, -1))
    return centred @ centred.mT / x.shape[-1]


def inverse_root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT


def whitened(x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    """[N, C, n] with the inverse root of [N, groups, d, d]."""
    parts = (x - mean).unflatten(1, (cov.shape[1], -1))
    return (inverse_root(cov) @ parts).flatten(1, 2)


def correlated(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=F64)
    mixing = torch.eye(shape[1]) + 0.3 * torch.randn(shape[1], shape[1], generator=generator)
    return torch.einsum("cd,nd...->nc...", mixing.to(F64), x).requires_grad_()


def assert_same(actual: Tensor, expected: Tensor, x: Tensor, tolerance: float = 1e-9) -> None:
    """Values, and gradients by x."""
    seed = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    our_gradient, expected_gradient = (
        torch.autograd.grad(y, x, seed)[0] for y in (actual, expected)
    )
    torch.testing.assert_close(our_gradient, expected_gradient, rtol=tolerance, atol=tolerance)


def test_decorrelated_batch_norm_is_whitening_by_decomposition(library: ModuleType) -> None:
    x = correlated(8, 6, 3, 4)
    norm = library.DecorrelatedBatchNorm(6, num_groups=2, eps=1e-5, momentum=1.0).double()
    flat = x.transpose(0, 1).flatten(1)
    cov = covariance(flat, 2) + 1e-5 * torch.eye(3)
    right = whitened(flat[None], flat.mean(1)[:, None], cov[None])[0]
    right = right.unflatten(1, (8, 3, 4)).transpose(0, 1)
    assert_same(norm(x), right, x)
    torch.testing.assert_close(norm.eval()(x), right, rtol=1e-9, atol=1e-9)  # momentum 1


def test_decorrelated_batch_norm_of_unlike_and_of_equal_eigenvalues(library: ModuleType) -> None:
    spread = torch.tensor([1.0, 1e-1, 1e-2, 1e-3])
    x = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)) * spread
    y = library.DecorrelatedBatchNorm(4, eps=1e-12)(x)
    torch.testing.assert_close(covariance(y.T, 1)[0], torch.eye(4), rtol=1e-3, atol=1e-3)
    cube = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], requires_grad=True)
    y = library.DecorrelatedBatchNorm(2)(cube)
    y.pow(3).sum().backward()
    assert cube.grad is not None
    assert torch.isfinite(cube.grad).all()


def switchable_whitening(x: Tensor, mean_shares: Tensor, cov_shares: Tensor) -> Tensor:
    """As in the paper, with the inverse root itself and shares for all five; eps is 1e-5."""
    flat, eye = x.flatten(2), torch.eye(3)
    batch = x.transpose(0, 1).flatten(1)
    bw, iw = covariance(batch, 2), covariance(flat, 2)
    layer_var, layer_mean = torch.var_mean(flat, (1, 2), correction=0, keepdim=True)
    means = (batch.mean(1)[:, None], flat.mean(2, keepdim=True)) * 2
    mean = sum(w * m for w, m in zip(mean_shares, (*means, layer_mean)))
    covs = (bw, iw, bw * eye, iw * eye, layer_var[..., None] * eye)
    cov = sum(w * c for w, c in zip(cov_shares, covs)) + 1e-5 * eye
    assert isinstance(mean, Tensor)
    return whitened(flat, mean, cov).view_as(x)


@pytest.mark.parametrize("name", ["SwitchableWhitening", "SwitchableWhiteningAll"])
def test_switchable_whitening_is_that_of_the_paper(name: str, library: ModuleType) -> None:
    x = correlated(5, 6, 4, 6)
    norm = getattr(library, name)(6, num_pergroup=3, steps=11, momentum=1.0).double()
    weights = (norm.sw_mean_weight, norm.sw_var_weight)
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.linspace(-0.5, 0.7, len(weight)))
    shares = [F.pad(w.softmax(0), (0, 5 - len(w))) for w in weights]
    right = switchable_whitening(x, *shares)
    assert_same(norm(x), right, x, 1e-8)
    torch.testing.assert_close(norm.eval()(x), right, rtol=1e-8, atol=1e-8)


# ---- statistics that are handed from layer to layer


def test_kalman_norm_filters_the_statistics_of_the_layer_before(library: ModuleType) -> None:
    x = correlated(8, 6, 3, 4)
    mean, var = torch.randn(6, dtype=F64), torch.rand(6, dtype=F64) + 0.5
    norm = library.KalmanNorm(6, share=0.2).double()
    own_var, own_mean = torch.var_mean(x, (0, 2, 3), correction=0)
    filtered = 0.2 * mean + 0.8 * own_mean
    filtered_var = 0.2 * var + 0.8 * own_var + 0.2 * 0.8 * (own_mean - mean).square()
    right = (x - per_channel(filtered)) / (per_channel(filtered_var) + 1e-5).sqrt()
    y, handed, handed_var = norm(x, mean, var)
    assert_same(y, right, x)
    torch.testing.assert_close(handed, filtered)
    torch.testing.assert_close(handed_var, filtered_var)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * filtered_var.detach())
    far = norm(x, mean, 1e4 * own_var)
    torch.testing.assert_close(far[0], F.batch_norm(x, None, None, training=True))


def test_the_first_layer_of_kalman_norm_is_batch_norm(library: ModuleType) -> None:
    x = correlated(8, 6, 3, 4).detach()
    first = library.KalmanNorm(6, share=0).double()(x)
    torch.testing.assert_close(first[0], F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(first.var, x.var((0, 2, 3), correction=0))


def test_the_modes_of_mode_norm_that_are_alike_are_batch_norm(library: ModuleType) -> None:
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(0))
    norm = library.ModeNorm(6, 3)
    nn.init.constant_(norm.gate_weight, 1 / 3)
    torch.testing.assert_close(norm(x), library.BatchNorm(6)(x))


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(3, 8, 2)])
def test_spectral_norm_is_that_of_torch(make: Callable[[], nn.Module], library: ModuleType) -> None:
    """Values, gradients and vectors from the same u and v: in evaluation, in training, after it."""
    torch.manual_seed(0)
    layer = make().double()
    theirs = parametrizations.spectral_norm(copy.deepcopy(layer))
    ours = nn.utils.parametrize.register_parametrization(layer, "weight", library.SpectralNorm())
    our_parametrizations, their_parametrizations = (
        ours.parametrizations.weight,
        theirs.parametrizations.weight,
    )
    with torch.no_grad():
        for name in ("u", "v"):
            vector = getattr(their_parametrizations[0], f"_{name}")
            getattr(our_parametrizations[0], name).copy_(
                vector.view_as(getattr(our_parametrizations[0], name))
            )
    seed = torch.randn(our_parametrizations.original.shape, dtype=F64)
    for training in (False, True, True, False):
        ours.train(training)
        theirs.train(training)
        actual, expected = ours.weight, theirs.weight
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(w, p.original, seed)[0]
            for w, p in ((actual, our_parametrizations), (expected, their_parametrizations))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(our_parametrizations[0].u, their_parametrizations[0]._u)
        torch.testing.assert_close(
            our_parametrizations[0].v.flatten(), their_parametrizations[0]._v
        )
        with torch.no_grad():  # so that vectors and weight are apart
            for p in (our_parametrizations, their_parametrizations):
                p.original.add_(0.1 * seed)


def test_spectral_norm_begins_near_the_largest_singular_value(library: ModuleType) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 2, dtype=F64)
    largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    norm = library.SpectralNorm(warmup=200)
    nn.utils.parametrize.register_parametrization(layer, "weight", norm)
    layer.eval()
    torch.testing.assert_close(
        torch.linalg.matrix_norm(layer.weight.flatten(1), 2), largest / largest
    )
    before = norm.u.clone()
    torch.manual_seed(1)
    norm.right_inverse(layer.parametrizations.weight.original)
    torch.testing.assert_close(norm.u.abs(), before.abs())  # from other numbers, to the same vector


def test_spectral_norm_leaves_zeros(library: ModuleType) -> None:
    layer = nn.Linear(5, 4)
    nn.init.zeros_(layer.weight)
    nn.utils.parametrize.register_parametrization(layer, "weight", library.SpectralNorm())
    assert layer.weight.eq(0).all()
    assert layer.eval().weight.eq(0).all()


def test_unit_weight_has_rows_of_length_one(library: ModuleType) -> None:
    w = torch.randn(4, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(library.UnitWeight()(w), F.normalize(w, dim=1))
