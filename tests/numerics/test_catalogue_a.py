"""Norms of part A of the catalogue, against layers of torch and PyG and formulas of the papers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import InstanceNorm as GraphInstanceNorm

F64 = torch.float64
Pair = tuple[Any, Tensor]  # what a norm gives, and what a formula gives


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64) * 2 + 1


def randomised(norm: nn.Module) -> nn.Module:
    """In float64, with no parameter at its neutral value."""
    norm = norm.double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.2, 0.9)
    return norm


def standard(x: Tensor, *dims: int, eps: float = 1e-5) -> Tensor:
    mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    return (x - mean) / (var + eps).sqrt()


def per_channel(x: Tensor) -> Tensor:
    """A vector of channels, or one for each example, beside [N, C, H, W]."""
    return x[..., None, None]


# ---- conditional norms


def conditional(name: str, normalize: Callable[[Tensor], Tensor], *first: int) -> Any:
    def pair(m: ModuleType) -> Pair:
        norm = randomised(getattr(m, name)(*first, 5, 6))
        x, label = draw(4, 6, 3, 2), torch.tensor([0, 3, 3, 1])
        wanted = per_channel(norm.gamma[label]) * normalize(x) + per_channel(norm.beta[label])
        return norm(x, label), wanted

    return pair


def film(m: ModuleType) -> Pair:
    x, gamma, beta = draw(4, 6, 3, 2), draw(4, 6), draw(4, 6)
    return m.FiLM()(x, gamma, beta), (1 + per_channel(gamma)) * x + per_channel(beta)


def mixed_by_rho(x: Tensor, rho: Tensor) -> Tensor:
    rho = per_channel(rho)
    return rho * F.instance_norm(x) + (1 - rho) * F.group_norm(x, 1)


def adalin(m: ModuleType) -> Pair:
    norm = randomised(m.AdaLIN(6))
    x, gamma, beta = draw(4, 6, 3, 2), draw(4, 6), draw(4, 6)
    wanted = per_channel(gamma) * mixed_by_rho(x, norm.rho) + per_channel(beta)
    return norm(x, gamma, beta), wanted


def upsampling_iln(m: ModuleType) -> Pair:
    norm = randomised(m.UpsamplingILN(6))
    x = draw(4, 6, 3, 2)
    wanted = per_channel(norm.gamma) * mixed_by_rho(x, norm.rho) + per_channel(norm.beta)
    return norm(x), wanted


# ---- a small network on statistics of keys


def ilm(name: str, groups: int) -> Any:
    def pair(m: ModuleType) -> Pair:
        norm = randomised(getattr(m, name)(12, key_size=4, embed=2))
        x = draw(2, 12, 3, 5)
        keys = x.unflatten(1, (3, 4))
        mean, var = keys.mean((2, 3, 4)), keys.var((2, 3, 4), correction=0)
        gain = torch.sigmoid(F.relu(var @ norm.encode.T) @ norm.to_gain.T)
        bias = torch.tanh(F.relu(mean @ norm.encode.T) @ norm.to_bias.T)
        gain, bias = (per_channel(v.repeat_interleave(4, 1)) for v in (gain, bias))
        gain, bias = gain + per_channel(norm.base_gain), bias + per_channel(norm.base_bias)
        return norm(x), gain * F.group_norm(x, groups) + bias

    return pair


# ---- tasks: statistics of a context set, completed by others


def completed(name: str, moments: Callable[[Tensor], tuple[Any, Any]], alpha: Any = None) -> Any:
    def pair(m: ModuleType) -> Pair:
        norm = randomised(getattr(m, name)(6))
        x, context = draw(4, 6, 3, 2), draw(5, 6, 2, 2)
        task = context.mean((0, 2, 3))[:, None, None]
        task_var = context.var((0, 2, 3), correction=0)[:, None, None]
        mean, var = moments(x)
        a = alpha if alpha is not None else torch.sigmoid(norm.slope * 5 + norm.offset)
        centre = a * task + (1 - a) * mean
        square = a * (task_var + task**2) + (1 - a) * (var + mean**2)
        z = (x - centre) / (square - centre**2 + 1e-5).sqrt()
        return norm(x, context), per_channel(norm.weight) * z + per_channel(norm.bias)

    return pair


def of_dims(*dims: int) -> Callable[[Tensor], tuple[Any, Any]]:
    return lambda x: (x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True))


def reptile_is_batch_norm_with_the_example(m: ModuleType) -> Pair:
    """Where examples are as large as those of the context set."""
    x, context = draw(4, 6, 3, 2), draw(5, 6, 3, 2)
    wanted = [F.batch_norm(torch.cat([context, x[i : i + 1]]), None, None, training=True)[-1]
              for i in range(4)]  # fmt: skip
    return m.ReptileNorm(6).double()(x, context), torch.stack(wanted)


# ---- statistics that are given back, or carry no gradient


def moment_shortcut(m: ModuleType) -> Pair:
    """What positional norm takes out is put back."""
    x = draw(4, 6, 3, 2)
    y, mean, std = m.PositionalNorm()(x)
    return m.MomentShortcut()(y, mean, std), x


# ---- graphs

BATCH = torch.tensor([0, 0, 1, 1, 1, 2])
EDGES = torch.tensor([[0, 1, 3, 2, 4], [1, 0, 2, 3, 2]])


def united(name: str, shares: Callable[[Tensor], Tensor]) -> Any:
    def pair(m: ModuleType) -> Pair:
        norm = randomised(getattr(m, name)(4))
        x = draw(6, 4)
        adjacency = []
        for node in range(6):
            near = torch.cat([EDGES[0, EDGES[1] == node], torch.tensor([node])])
            mean, var = x[near].mean(), x[near].var(correction=0)
            adjacency.append((x[node] - mean) / (var + 1e-5).sqrt())
        parts = (F.layer_norm(x, (4,)), torch.stack(adjacency), GraphInstanceNorm(4)(x, BATCH),
                 F.batch_norm(x, None, None, training=True))  # fmt: skip
        names = ("node", "adjacency", "graph", "batch")
        share = shares(torch.stack([getattr(norm, f"lambda_{n}") for n in names]))
        wanted = sum(s * part for s, part in zip(share, parts))
        return norm(x, EDGES, BATCH), norm.weight * wanted + norm.bias

    return pair


def graphwise(m: ModuleType) -> Pair:
    x = draw(6, 4)
    return m.GraphwiseNorm(4).double()(x, BATCH), GraphInstanceNorm(4)(x, BATCH)


def node_norm(m: ModuleType) -> Pair:
    x = draw(6, 4)
    return m.NodeNorm(4).double()(x), F.layer_norm(x, (4,))


def edge_adjacency(m: ModuleType) -> Pair:
    x = draw(5, 4)
    wanted = torch.empty_like(x)
    for node in EDGES[1].unique():
        wanted[EDGES[1] == node] = standard(x[EDGES[1] == node], 0, 1)
    return m.EdgeAdjacencyNorm(4).double()(x, EDGES[1]), wanted


# ---- groups of examples


def four_things(examples: int, channels: int, wanted: Callable[[Tensor], Tensor]) -> Any:
    def pair(m: ModuleType) -> Pair:
        x = draw(4, 6, 3, 2)
        return m.FourThingsNorm(examples, 6, channels).double()(x), wanted(x)

    return pair


def ghosts(x: Tensor) -> Tensor:
    return torch.cat([F.batch_norm(half, None, None, training=True) for half in x.chunk(2)])


# ---- scores


def scores_of(table: Tensor, cohort: Tensor, dim: int) -> Tensor:
    mean, var = cohort.mean(dim, keepdim=True), cohort.var(dim, correction=0, keepdim=True)
    return (table - mean) / var.sqrt()


def z_norm(m: ModuleType) -> Pair:
    s, z = draw(3, 4), draw(3, 7)
    return m.ZNorm()(s, z), scores_of(s, z, 1)


def t_norm(m: ModuleType) -> Pair:
    s, t = draw(3, 4), draw(5, 4)
    return m.TNorm()(s, t), scores_of(s, t, 0)


def zt_norm(m: ModuleType) -> Pair:
    s, z, t, zt = draw(3, 4), draw(3, 7), draw(5, 4), draw(5, 7)
    return m.ZTNorm()(s, z, t, zt), scores_of(scores_of(s, z, 1), scores_of(t, zt, 1), 0)


def s_norm(m: ModuleType) -> Pair:
    s, z, t = draw(3, 4), draw(3, 7), draw(5, 4)
    return m.SNorm()(s, z, t), (scores_of(s, z, 1) + scores_of(s, t, 0)) / 2


def as_norm(m: ModuleType) -> Pair:
    s, z, t = draw(3, 4), draw(3, 7), draw(5, 4)
    best_z, best_t = z.topk(3, 1).values, t.topk(3, 0).values
    return m.ASNorm(3)(s, z, t), (scores_of(s, best_z, 1) + scores_of(s, best_t, 0)) / 2


# ---- coefficients, weights, hidden units, affinities


def gradient_weighted(m: ModuleType) -> Pair:
    """Two polynomials in the terms 1, a, b, ab and b^2, with derivatives by autograd."""
    a, b = (torch.randn(8, dtype=F64, requires_grad=True) for _ in range(2))
    terms = (a * 0, a, b, a * b, b * b)
    slopes = [torch.autograd.grad((t + 0 * b + 0 * a).sum(), (a, b)) for t in terms]
    gradient = torch.stack([torch.stack(s, -1) for s in slopes], 1)
    degree = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0, 2]], dtype=F64)
    c = draw(2, 5)
    length = gradient.square().sum((0, 2)).sqrt() / (degree.norm(dim=1).clamp_min(1) * 8**0.5)
    return m.GradientWeightedNorm()(c, gradient, degree), c / (c * length).norm(dim=1)[:, None]


def shallow(m: ModuleType) -> Pair:
    x = draw(4, 16)
    return m.ShallowScale(0.75)(x), x / 8


def zero_mean_kernels(m: ModuleType) -> Pair:
    w = draw(4, 3, 3, 3)
    centred = w - w.mean((2, 3), keepdim=True)
    return m.ZeroMeanUnitKernels()(w), F.normalize(centred.flatten(1)).view_as(w)


def relu_network(m: ModuleType) -> Pair:
    """A weight with the root of the units in it is that root outside of the network."""
    x, layer = draw(5, 3), nn.Linear(3, 8, bias=False).double()
    v, signs = layer.weight.detach().clone(), torch.tensor([1.0, -1.0] * 4, dtype=F64)
    nn.utils.parametrize.register_parametrization(layer, "weight", m.ReLUWeightNorm(0.5))
    gain = v.norm(dim=1) / 0.5
    units = F.relu(x @ (gain[:, None] * F.normalize(v)).T)
    return F.relu(layer(x)) @ signs, units @ signs / 8**0.5


def row_stochastic(m: ModuleType) -> Pair:
    d = draw(5, 5).abs()
    logits = (-(d**2) / 2).masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf)
    return m.RowStochastic(2)(d), logits.softmax(1)


def symmetric(m: ModuleType) -> Pair:
    d = draw(5, 5).abs()
    d = d + d.T
    kernel = torch.exp(-(d**2) / 9) * (1 - torch.eye(5, dtype=F64))
    roots = torch.diag(kernel.sum(1).rsqrt())
    return m.SymmetricStochastic(9)(d), roots @ kernel @ roots


def deviations(m: ModuleType) -> Pair:
    """As printed: sigma is averaged over batch and channels, and the square comes afterwards."""
    x, u = draw(4, 6, 3, 2), torch.rand(4, 4, dtype=F64)
    rows = u / u.sum(1, keepdim=True)
    mean, std = rows @ x.mean((2, 3)), rows @ x.std((2, 3), correction=0)
    wanted = (x - per_channel(mean)) / (per_channel(std) ** 2 + 1e-5).sqrt()
    return m.MetaNormDeviations(6, U=u).double()(x), wanted


def switch_1d(m: ModuleType) -> Pair:
    norm, x = randomised(m.SwitchNorm1d(6)), draw(4, 6)
    p, q = norm.mean_weight.softmax(0), norm.var_weight.softmax(0)
    mean = p[0] * x.mean(1, keepdim=True) + p[1] * x.mean(0)
    var = q[0] * x.var(1, correction=0, keepdim=True) + q[1] * x.var(0, correction=0)
    return norm(x), (x - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias


PAIRS: dict[str, Callable[[ModuleType], Pair]] = {
    "conditional batch norm": conditional(
        "ConditionalBatchNorm", lambda x: F.batch_norm(x, None, None, training=True)
    ),
    "conditional instance norm": conditional("ConditionalInstanceNorm", F.instance_norm),
    "conditional group norm": conditional("ConditionalGroupNorm", lambda x: F.group_norm(x, 3), 3),
    "FiLM": film,
    "AdaLIN": adalin,
    "ILN of U-GAT-IT": upsampling_iln,
    "ILM on group norm": ilm("ILMGroupNorm", 6),
    "ILM on instance norm": ilm("ILMInstanceNorm", 12),
    "ILM on layer norm": ilm("ILMLayerNorm", 1),
    "TaskNorm-I": completed("TaskNorm", of_dims(2, 3)),
    "TaskNorm-L": completed("TaskNormL", of_dims(1, 2, 3)),
    "TaskNorm-r": completed("TaskNormR", lambda x: (0.0, 1.0)),
    "MetaBN": completed("MetaBatchNorm", lambda x: (0.0, 1.0), 1),
    "Reptile": completed("ReptileNorm", of_dims(2, 3), 5 / 6),
    "Reptile, as batch norm": reptile_is_batch_norm_with_the_example,
    "moment shortcut": moment_shortcut,
    "node-wise": node_norm,
    "graph-wise": graphwise,
    "adjacency-wise, of edges": edge_adjacency,
    "united": united("UnitedNorm", lambda w: w),
    "united, common": united("UnitedNormCommon", lambda w: w / w.sum(0)),
    "united, softmax": united("UnitedNormSoftmax", lambda w: w.softmax(0)),
    "four things, one group": four_things(
        4, 1, lambda x: F.batch_norm(x, None, None, training=True)
    ),
    "four things, ghosts": four_things(2, 1, ghosts),
    "four things, channels": four_things(1, 2, lambda x: F.group_norm(x, 3)),
    "Z-norm": z_norm,
    "T-norm": t_norm,
    "ZT-norm": zt_norm,
    "S-norm": s_norm,
    "AS-norm": as_norm,
    "gradient-weighted": gradient_weighted,
    "shallow network": shallow,
    "zero-mean kernels": zero_mean_kernels,
    "ReLU network": relu_network,
    "row-stochastic": row_stochastic,
    "symmetric": symmetric,
    "averaged deviations": deviations,
    "switch norm of vectors": switch_1d,
}


@pytest.mark.parametrize("name", PAIRS)
def test_is_what_the_paper_says(name: str, library: ModuleType) -> None:
    actual, expected = PAIRS[name](library)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("mean_detach", [True, False])
@pytest.mark.parametrize("std_detach", [True, False])
def test_detached_statistics_are_constants_of_the_gradient(
    mean_detach: bool, std_detach: bool, library: ModuleType
) -> None:
    x, seed = draw(3, 6).requires_grad_(), draw(3, 6)
    mean, std = x.mean(1, keepdim=True), (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    mean = mean.detach() if mean_detach else mean
    std = std.detach() if std_detach else std
    norm = library.DetachNorm(6, mean_detach=mean_detach, std_detach=std_detach).double()
    ours, theirs = (
        torch.autograd.grad((y * seed).sum(), x)[0] for y in (norm(x), (x - mean) / std)
    )
    torch.testing.assert_close(ours, theirs)


def test_four_things_keep_mean_squares_as_the_authors_do(library: ModuleType) -> None:
    """Their moving averages of x and x^2, and the mixture of evaluation, from raw moments."""
    norm = library.FourThingsNorm(2, 6, 3, example_weight=0.3, momentum=0.2).double()
    first, second = torch.zeros(6, dtype=F64), torch.ones(6, dtype=F64)
    for _ in range(4):
        x = draw(4, 6, 3, 2)
        norm(x)
        first = 0.8 * first + 0.2 * x.mean((0, 2, 3))
        second = 0.8 * second + 0.2 * x.square().mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, first)
    torch.testing.assert_close(norm.running_var, second - first**2)

    def grouped(v: Tensor) -> Tensor:
        return (
            v.unflatten(-1, (2, 3)).mean(-1, keepdim=True).expand(*v.shape[:-1], 2, 3).flatten(-2)
        )

    mean = 0.7 * grouped(first) + 0.3 * grouped(x.mean((2, 3)))
    square = 0.7 * grouped(second) + 0.3 * grouped(x.square().mean((2, 3)))
    wanted = (x - per_channel(mean)) / per_channel(square - mean**2 + 1e-5).sqrt()
    torch.testing.assert_close(norm.eval()(x), wanted)


def test_task_norm_r_keeps_the_statistics_of_tasks(library: ModuleType) -> None:
    norm, batch = library.TaskNormR(6).double(), nn.BatchNorm2d(6).double()
    for _ in range(3):
        context = draw(5, 6, 2, 2)
        norm(draw(4, 6, 3, 2), context)
        batch(context)
    torch.testing.assert_close(norm.running_mean, batch.running_mean)
    before = norm.running_var.clone()
    norm.eval()(draw(4, 6, 3, 2), context)
    assert torch.equal(norm.running_var, before)


def test_a_trained_conditional_batch_norm_evaluates_by_running_statistics(
    library: ModuleType,
) -> None:
    norm, batch_norm = library.ConditionalBatchNorm(5, 6), nn.BatchNorm2d(6, affine=False)
    for _ in range(3):
        x = torch.randn(4, 6, 3, 2)
        norm(x, torch.zeros(4, dtype=torch.long))
        batch_norm(x)
    x = torch.randn(2, 6, 3, 2)
    y = norm.eval()(x, torch.tensor([4, 0]))
    torch.testing.assert_close(y, batch_norm.eval()(x))


# The norms of which each pool is a whole sphere: how they are made, and what one pool is.
SPHERES: dict[str, tuple[tuple[Any, ...], Callable[[Tensor], Tensor]]] = {
    "LayerNorm": (((6, 3, 2),), lambda y: y.flatten(1)),
    "GroupNorm": ((3, 6), lambda y: y.unflatten(1, (3, 2)).flatten(2).flatten(0, 1)),
    "InstanceNorm": ((6,), lambda y: y.flatten(2).flatten(0, 1)),
    "BatchNorm": ((6,), lambda y: y.transpose(0, 1).flatten(1)),
}


@pytest.mark.parametrize("name", SPHERES)
def test_a_normalizer_maps_onto_a_sphere(name: str, library: ModuleType) -> None:
    """Its pools have sum zero and length sqrt(m), whatever the scale; the gradient is tangent."""
    arguments, pools = SPHERES[name]
    norm = getattr(library, name)(*arguments, eps=0.0).double()
    x = draw(4, 6, 3, 2).requires_grad_()
    y = norm(x)
    points = pools(y)
    length = torch.full((len(points),), points.shape[1] ** 0.5, dtype=F64)
    torch.testing.assert_close(points.norm(dim=1), length)
    torch.testing.assert_close(points.sum(1), torch.zeros_like(length), rtol=0, atol=1e-9)
    torch.testing.assert_close(norm(7 * x + 3), y)
    (gradient,) = torch.autograd.grad((y * draw(4, 6, 3, 2)).sum(), x)
    pooled_gradient, pooled_input = pools(gradient), pools(x)
    torch.testing.assert_close(
        (pooled_gradient * pooled_input).sum(1), 0 * length, rtol=0, atol=1e-9
    )
    torch.testing.assert_close(pooled_gradient.sum(1), 0 * length, rtol=0, atol=1e-9)


def test_normalized_weights_have_tangent_gradients(library: ModuleType) -> None:
    """A network that does not see the length of a weight has no gradient along it."""
    weight, seed = draw(4, 5).requires_grad_(), draw(4, 5)
    norm = library.WeightNorm()
    layer = nn.Linear(5, 4).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    nn.utils.parametrize.register_parametrization(layer, "weight", norm)
    original = layer.parametrizations.weight.original
    (gradient,) = torch.autograd.grad((layer.weight * seed).sum(), original)
    none = torch.zeros(4, dtype=F64)
    torch.testing.assert_close((gradient * original).sum(1), none, rtol=0, atol=1e-9)


def test_ada_norm_has_the_mean_that_its_factor_leaves(library: ModuleType) -> None:
    """-C k, times (D - 1) / D where the deviation is that of a sample, as in the authors' code."""
    norm = library.AdaNorm(6, k=0.1, scale=2.0, eps=0.0)
    torch.testing.assert_close(norm(draw(3, 6)).mean(1), torch.full((3,), -0.2, dtype=F64))


@pytest.mark.parametrize("features, k", [(6, 1), (6, 2), (9, 4), (1, 1)])
def test_top_k_layer_norm_takes_what_is_beyond_the_k_th_for_it(
    library: ModuleType, features: int, k: int
) -> None:
    """As the authors' code, which writes the k-th value into the places of those beyond it."""
    norm = library.TopKLayerNorm(features, k=k).double()
    x = draw(5, features).requires_grad_()
    largest, smallest = (x.topk(k, largest=side) for side in (True, False))
    clipped = x
    for kept in (largest, smallest):
        clipped = clipped.scatter(1, kept.indices, kept.values[:, -1:].expand(5, k))
    right = torch.nn.functional.layer_norm(clipped, (features,), norm.weight, norm.bias, norm.eps)
    y, cotangent = norm(x), draw(5, features)
    torch.testing.assert_close(y, right)
    leaves = (x, norm.weight, norm.bias)
    gradients, wanted = (torch.autograd.grad(z, leaves, cotangent) for z in (y, right))
    torch.testing.assert_close(gradients, wanted)
