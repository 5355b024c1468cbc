"""What the norms of the library are to each other, and what leaves them alone.

In float64 and mostly with eps = 0, where these identities hold exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

F64 = torch.float64
N, C, H, W = 6, 8, 3, 5


def images(seed: int = 0) -> Tensor:
    """Images whose channels and samples differ in mean and spread."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(N, C, H, W, generator=g, dtype=F64)
    spread = torch.rand(N, C, 1, 1, generator=g, dtype=F64) + 0.5
    return x * spread + torch.randn(N, C, 1, 1, generator=g, dtype=F64)


def nodes(seed: int = 0) -> tuple[Tensor, Tensor]:
    """The features of 12 nodes, and the graph of each: three graphs, in no order."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(12, C, generator=g, dtype=F64), torch.tensor([0, 2, 1] * 3 + [2, 2, 0])


def same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def randomized(module: nn.Module) -> nn.Module:
    """The module in float64, with parameters away from their neutral values."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=g, dtype=F64) + 0.5)
    return module


# ---- norms that are others

Pair = Callable[[ModuleType], tuple[nn.Module, nn.Module]]
SAME_FOR_IMAGES: dict[str, Pair] = {
    "group norm with one group is layer norm over C, H, W": lambda m: (
        m.GroupNorm(1, C, affine=False),
        m.LayerNorm((C, H, W), elementwise_affine=False),
    ),
    "group norm with C groups is instance norm": lambda m: (
        m.GroupNorm(C, C, affine=False),
        m.InstanceNorm(C),
    ),
    "ghost batch norm with one ghost is batch norm": lambda m: (
        m.GhostBatchNorm(N, C),
        m.BatchNorm(C),
    ),
    "ghosts of one sample are instance norm": lambda m: (
        m.GhostBatchNorm(1, C, affine=False),
        m.InstanceNorm(C),
    ),
    "meta norm with no matrices is instance norm": lambda m: (m.MetaNorm(C), m.InstanceNorm(C)),
    "meta norm that joins the batch is batch norm": lambda m: (
        m.MetaNorm(C, U="ones"),
        m.BatchNorm(C),
    ),
    "meta norm that joins the channels is layer norm": lambda m: (
        m.MetaNorm(C, V="ones"),
        m.GroupNorm(1, C),
    ),
    "meta norm with blocks of channels is group norm": lambda m: (
        m.MetaNorm(C, V="blocks(4)"),
        m.GroupNorm(4, C),
    ),
    "meta norm with chunks of the batch is ghost batch norm": lambda m: (
        m.MetaNorm(C, U="chunks(2)"),
        m.GhostBatchNorm(2, C),
    ),
    "meta norm takes the same matrix written out": lambda m: (
        m.MetaNorm(C, V="blocks(2)"),
        m.MetaNorm(C, V=torch.block_diag(*[torch.ones(C // 2, C // 2)] * 2)),
    ),
    "rows of a matrix count up to a factor": lambda m: (
        m.MetaNorm(C, U="ones"),
        m.MetaNorm(C, U=torch.arange(1.0, N + 1)[:, None].expand(N, N)),
    ),
    "the literal meta norm is instance norm too": lambda m: (
        m.MetaNormWithin(C),
        m.InstanceNorm(C),
    ),
    "instance norm is batch norm of each sample": lambda m: (
        m.InstanceNorm(C),
        Each(m.BatchNorm(C)),
    ),
    "mean-only batch norm takes the mean away": lambda m: (
        m.MeanOnlyBatchNorm(C),
        Formula(lambda x: x - x.mean((0, 2, 3), keepdim=True)),
    ),
}


class Each(nn.Module):
    """A norm on one sample after the other."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(x[i : i + 1]) for i in range(len(x))])


class Formula(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", SAME_FOR_IMAGES)
def test_norms_that_are_others(name: str, library: ModuleType) -> None:
    for actual, expected in zip(
        *(with_gradient(m.double()) for m in SAME_FOR_IMAGES[name](library))
    ):
        same(actual, expected)


def with_gradient(module: nn.Module) -> tuple[Tensor, Tensor]:
    """The output for the images, and the gradient of one combination of it."""
    x = images().requires_grad_()
    y = module(x)
    weights = torch.linspace(-1, 2, y.numel(), dtype=F64).view(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), x)[0]


@pytest.mark.parametrize(
    ("chosen", "other"), [(0, "InstanceNorm"), (1, "LayerNorm"), (2, "BatchNorm")]
)
def test_switch_norm_with_one_weight_is_the_norm_it_weighs(
    chosen: int, other: str, library: ModuleType
) -> None:
    switch = library.SwitchNorm(C).double()
    with torch.no_grad():
        for weight in (switch.mean_weight, switch.var_weight):
            weight.fill_(-1000).index_fill_(0, torch.tensor(chosen), 0)
    norms = {"InstanceNorm": (C,), "LayerNorm": ((C, H, W), 1e-5, False), "BatchNorm": (C,)}
    same(switch(images()), getattr(library, other)(*norms[other]).double()(images()))


@pytest.mark.parametrize(("gate", "other"), [(1, "BatchNorm"), (0, "InstanceNorm")])
def test_batch_instance_norm_at_the_ends_of_its_gate(
    gate: float, other: str, library: ModuleType
) -> None:
    mixture = library.BatchInstanceNorm(C).double()
    mixture.gate.data.fill_(gate)
    same(mixture(images()), getattr(library, other)(C).double()(images()))


@pytest.mark.parametrize("rho", [1000.0, -1000.0])
def test_instance_layer_norm_at_the_ends_of_its_gate(rho: float, library: ModuleType) -> None:
    mixture = library.InstanceLayerNorm(C, num_groups=4).double()
    mixture.rho.data.fill_(rho)
    x = images()
    first = F.instance_norm(x) if rho > 0 else F.layer_norm(x, (C, H, W))
    same(mixture(x), F.group_norm(first, 4))


def test_rms_norm_of_centred_values_is_layer_norm(library: ModuleType) -> None:
    x = images()
    centred = x - x.mean((2, 3), keepdim=True)
    rms = randomized(library.RMSNorm((H, W), eps=1e-5))
    layer = library.LayerNorm((H, W)).double()
    layer.weight.data.copy_(rms.weight)
    same(rms(centred), layer(x))


def test_variance_only_layer_norm_leaves_the_mean_in(library: ModuleType) -> None:
    x = images()
    actual = library.VarianceOnlyLayerNorm(W).double()(x)
    std = (x.var(3, correction=0, keepdim=True) + 1e-5).sqrt()
    same(actual - F.layer_norm(x, (W,)), (x.mean(3, keepdim=True) / std).expand_as(x))


def test_positional_norm_is_layer_norm_of_each_position(library: ModuleType) -> None:
    x = images()
    y, mean, std = library.PositionalNorm().double()(x)
    same(y, F.layer_norm(x.movedim(1, 3), (C,)).movedim(3, 1))
    same(y * std[:, None] + mean[:, None], x)


def test_adaptive_layer_norm_without_condition_is_layer_norm(library: ModuleType) -> None:
    x, zero = torch.randn(2, 3, C, dtype=F64), torch.zeros(2, C, dtype=F64)
    same(library.AdaLayerNorm().double()(x, zero, zero), F.layer_norm(x, (C,), eps=1e-6))


def test_graph_norm_of_one_graph_is_batch_norm(library: ModuleType) -> None:
    x, _ = nodes()
    graph, batch = library.GraphNorm(C).double(), library.BatchNorm(C).double()
    same(graph(x), batch(x))


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_graph_norm_at_the_ends_of_its_mean_scale(scale: float, library: ModuleType) -> None:
    """Every graph is normalized by itself: by mean and variance, or by the root mean square."""
    x, batch = nodes()
    norm = library.GraphNorm(C, eps=0).double()
    norm.mean_scale.data.fill_(scale)
    actual = norm(x, batch)
    for graph in range(3):
        rows = x[batch == graph]
        centred = rows - scale * rows.mean(0)
        same(actual[batch == graph], centred / centred.square().mean(0).sqrt())


def test_task_norm_with_the_weight_of_the_context_is_batch_norm_with_the_example(
    library: ModuleType,
) -> None:
    """alpha = n / (n + 1): the moments are those of the n examples and the one, pooled."""
    x, context = images(), images(1)
    norm = library.TaskNorm(C).double()
    norm.offset.data.fill_(math.log(N))
    actual = norm(x, context)
    for i in range(N):
        pooled = torch.cat([context, x[i : i + 1]])
        mean = pooled.mean((0, 2, 3))[:, None, None]
        var = pooled.var((0, 2, 3), correction=0)[:, None, None]
        same(actual[i], (x[i] - mean) / (var + 1e-5).sqrt())


def test_evo_norm_without_slope_halves_what_its_groups_scale(library: ModuleType) -> None:
    x = images()
    norm = library.EvoNormS0(C, groups=4).double()
    norm.v.data.zero_()
    var = x.view(N, 4, -1).var(2, correction=0).repeat_interleave(C // 4, 1)[..., None, None]
    same(norm(x), 0.5 * x / (var + 1e-5).sqrt())


def test_masked_batch_norm_is_batch_norm_of_what_counts(library: ModuleType) -> None:
    x, mask = torch.randn(N, C, W, dtype=F64), torch.rand(N, W) < 0.6
    masked, unmasked = library.MaskedBatchNorm(C).double(), library.BatchNorm(C).double()
    actual = masked(x, mask).movedim(1, 2)[mask]
    same(actual, unmasked(x.movedim(1, 2)[mask]))
    same(masked.running_mean, unmasked.running_mean)
    same(masked.running_var, unmasked.running_var)
    same(masked(x, torch.ones_like(mask)), unmasked(x))


# ---- what is left out of a pool


def test_the_literal_meta_norm_leaves_the_spread_between_cells_out(library: ModuleType) -> None:
    """Pooled variance = mean of the cells' variances + variance of their means."""
    x = images()
    total, within = (
        norm(C, U="ones", eps=0).double()(x) for norm in (library.MetaNorm, library.MetaNormWithin)
    )
    cells = x.var((2, 3), correction=0).mean(0)
    variance_of_means = x.mean((2, 3)).var(0, correction=0)
    ratio = (cells / (cells + variance_of_means)).sqrt()[:, None, None]
    same(total, within * ratio)
    assert bool((variance_of_means > 0.01).all())


# ---- what the results are like

POOLS: dict[str, tuple[Callable[[ModuleType], nn.Module], Callable[[Tensor], Tensor]]] = {
    "BatchNorm": (lambda m: m.BatchNorm(C, eps=0), lambda y: y.movedim(1, 0).flatten(1)),
    "InstanceNorm": (lambda m: m.InstanceNorm(C, eps=0), lambda y: y.flatten(2).flatten(0, 1)),
    "LayerNorm": (lambda m: m.LayerNorm((H, W), eps=0), lambda y: y.flatten(2).flatten(0, 1)),
    "GroupNorm": (lambda m: m.GroupNorm(2, C, eps=0), lambda y: y.reshape(2 * N, -1)),
    "GhostBatchNorm": (
        lambda m: m.GhostBatchNorm(3, C, eps=0),
        lambda y: y.view(2, 3, C, -1).movedim(2, 1).reshape(2 * C, -1),
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_each_pool_sums_to_zero_and_has_length_root_m(name: str, library: ModuleType) -> None:
    make, pools = POOLS[name]
    rows = pools(make(library).double()(images()))
    same(rows.sum(1), torch.zeros(len(rows), dtype=F64))
    same(rows.norm(dim=1), torch.full((len(rows),), math.sqrt(rows.shape[1]), dtype=F64))


@pytest.mark.parametrize("name", POOLS)
def test_the_backward_pass_is_a_projection(name: str, library: ModuleType) -> None:
    """dx = (g - mean(g) - z mean(g z)) / sigma in each pool: orthogonal to 1 and to z."""
    make, pools = POOLS[name]
    x = images().requires_grad_()
    y = make(library).double()(x)
    g = torch.randn(y.shape, dtype=F64)
    dx = pools(torch.autograd.grad(y, x, g)[0])
    z, g, pooled_input = pools(y.detach()), pools(g), pools(x.detach())
    sigma = pooled_input.std(1, correction=0, keepdim=True)
    same(dx, (g - g.mean(1, True) - z * (g * z).mean(1, True)) / sigma)
    same(dx.sum(1), torch.zeros(len(dx), dtype=F64))
    same((dx * z).sum(1), torch.zeros(len(dx), dtype=F64))


def test_ada_norm_has_a_negative_mean(library: ModuleType) -> None:
    """The mean of scale * (1 - k z) z is -scale * k where the variance is biased."""
    y = library.AdaNorm(W, k=0.3, scale=2, eps=0).double()(images())
    same(y.mean(3), torch.full((N, C, H), -0.6, dtype=F64))


def test_pair_norm_fixes_the_mean_square_distance_of_nodes(library: ModuleType) -> None:
    x, batch = nodes()
    y = library.PairNorm(scale=3, eps=0).double()(x, batch)
    for graph in range(3):
        rows = y[batch == graph]
        pairs = (rows[:, None] - rows[None, :]).square().sum(2)
        same(pairs.mean(), torch.tensor(2 * 3**2, dtype=F64))


def test_evaluation_is_a_fixed_affine_map(library: ModuleType) -> None:
    """It does not depend on the rest of the batch, and is linear in x up to a shift."""
    norm = randomized(library.BatchNorm(C))
    norm(images())
    norm.eval()
    a, b = images(1), images(2)
    same(norm(a)[:1], norm(a[:1]))
    same(norm((a + b) / 2), (norm(a) + norm(b)) / 2)


# ---- what does not change the results

SCALE_FREE: dict[str, Callable[[ModuleType], nn.Module]] = {
    **{name: make for name, (make, _) in POOLS.items()},
    "MetaNorm": lambda m: m.MetaNorm(C, U="ones", V="blocks(2)", eps=0),
    "MetaNormWithin": lambda m: m.MetaNormWithin(C, U="ones", eps=0),
    "RMSNorm": lambda m: m.RMSNorm((H, W), eps=0),
    "SwitchNorm": lambda m: m.SwitchNorm(C, eps=0),
    "BatchInstanceNorm": lambda m: m.BatchInstanceNorm(C, eps=0),
    "InstanceLayerNorm": lambda m: m.InstanceLayerNorm(C, num_groups=2, eps=0),
    "TaskNorm": lambda m: m.TaskNorm(C, eps=0),
    "VarianceOnlyLayerNorm": lambda m: m.VarianceOnlyLayerNorm((H, W), eps=0),
    "LayerNormSimple": lambda m: m.LayerNormSimple(W, eps=0),
    "AdaNorm": lambda m: m.AdaNorm(W, eps=0),
}
SHIFT_FREE = set(SCALE_FREE) - {"RMSNorm", "VarianceOnlyLayerNorm"} | {"MeanOnlyBatchNorm"}
OTHERS: dict[str, Callable[[ModuleType], nn.Module]] = {
    **SCALE_FREE,
    "MeanOnlyBatchNorm": lambda m: m.MeanOnlyBatchNorm(C),
}


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e5])
def test_a_positive_factor_changes_nothing(name: str, factor: float, library: ModuleType) -> None:
    norm = randomized(SCALE_FREE[name](library))
    same(norm(factor * images()), norm(images()))


@pytest.mark.parametrize("name", sorted(SHIFT_FREE))
def test_a_shift_changes_nothing(name: str, library: ModuleType) -> None:
    norm = randomized(OTHERS[name](library))
    same(norm(images() + 3), norm(images()))


@pytest.mark.parametrize("name", ["RMSNorm", "VarianceOnlyLayerNorm"])
def test_where_the_mean_is_left_in_a_shift_shows(name: str, library: ModuleType) -> None:
    norm = randomized(SCALE_FREE[name](library))
    assert not torch.allclose(norm(images() + 3), norm(images()), atol=0.1)


@pytest.mark.parametrize("norm", ["BatchNorm", "GhostBatchNorm"])
def test_scaling_the_weights_before_a_batch_norm_changes_nothing(
    norm: str, library: ModuleType
) -> None:
    """So the gradient is orthogonal to the weights, and shrinks as they grow."""
    arguments = {"BatchNorm": (C,), "GhostBatchNorm": (3, C)}[norm]
    layer = getattr(library, norm)(*arguments, eps=0).double()
    x, weight = torch.randn(N, 4, dtype=F64), torch.randn(C, 4, dtype=F64, requires_grad=True)
    rate = torch.rand(C, dtype=F64) + 0.5
    actual = layer(x @ (rate[:, None] * weight).T)
    same(actual, layer(x @ weight.T))
    (gradient,) = torch.autograd.grad(layer(x @ weight.T).pow(3).sum(), weight)
    same((gradient * weight).sum(1), torch.zeros(C, dtype=F64))


BATCH_FREE: dict[str, Callable[[ModuleType], nn.Module]] = {
    "InstanceNorm": lambda m: m.InstanceNorm(C),
    "LayerNorm": lambda m: m.LayerNorm((C, H, W)),
    "GroupNorm": lambda m: m.GroupNorm(2, C),
    "RMSNorm": lambda m: m.RMSNorm((C, H, W)),
    "EvoNormS0": lambda m: m.EvoNormS0(C, groups=2),
    "InstanceLayerNorm": lambda m: m.InstanceLayerNorm(C, num_groups=2),
    "VarianceOnlyLayerNorm": lambda m: m.VarianceOnlyLayerNorm((C, H, W)),
    "AdaNorm": lambda m: m.AdaNorm((C, H, W)),
    "MetaNorm": lambda m: m.MetaNorm(C, V="ones"),
}


@pytest.mark.parametrize("name", BATCH_FREE)
def test_each_sample_is_normalized_by_itself(name: str, library: ModuleType) -> None:
    norm, x = randomized(BATCH_FREE[name](library)), images()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    same(norm(x[order]), norm(x)[order])
    same(norm(x)[2:3], norm(x[2:3]))


def test_the_order_of_nodes_and_the_names_of_graphs_do_not_matter(library: ModuleType) -> None:
    x, batch = nodes()
    order, names = torch.randperm(12), torch.tensor([1, 2, 0])
    for norm in (randomized(library.GraphNorm(C)), library.PairNorm().double()):
        same(norm(x[order], batch[order]), norm(x, batch)[order])
        same(norm(x, names[batch]), norm(x, batch))
