"""Norms with pools of their own for each position, against torch's layers and written formulas."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu
from torch_geometric.utils import to_dense_adj

import metanorm

F64 = torch.float64


def close(ours: Tensor, theirs: Tensor, *by: Tensor, tolerance: float = 1e-12) -> None:
    """The same values, and the same gradients of a random combination of them."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    seed = torch.randn(ours.shape, dtype=ours.dtype)
    gradients = [
        torch.autograd.grad((y * seed).sum(), by, retain_graph=True) for y in (ours, theirs)
    ]
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=tolerance * 10, atol=tolerance * 10)


def images(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return (torch.randn(*shape, dtype=dtype) * 2 + 1).requires_grad_()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 3, 4), (1, 2, 3)])
def test_local_response_norm_is_that_of_torch(
    size: int, shape: tuple[int, ...], library: ModuleType
) -> None:
    x = images(*shape)
    for more in ((), (0.1, 0.5, 2.0)):
        reference, ours = nn.LocalResponseNorm(size, *more), library.LocalResponseNorm(size, *more)
        close(ours(x), reference(x), x)


def test_local_response_sum_is_that_of_the_paper(library: ModuleType) -> None:
    """k = 2 + alpha times the sum of squares over five channels, those beyond the first being 0."""
    x = images(2, 7, 3)
    squares = [x[:, max(0, c - 2) : c + 3].square().sum(1) for c in range(7)]
    y = x / (2 + 1e-4 * torch.stack(squares, 1)) ** 0.75
    close(library.LocalResponseSum()(x), y, x)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_local_context_norm_by_average_pooling(width: int, library: ModuleType) -> None:
    """Odd windows without what is beyond the border, over the two channels of a group."""
    x = images(2, 4, 6, 7)
    norm = library.LocalContextNorm(4, width=width).double()
    halves = x.unflatten(1, (2, 2))

    def pooled(values: Tensor) -> Tensor:
        return avg_pool2d(values, width, 1, width // 2, count_include_pad=False)

    mean = pooled(halves.mean(2))
    var = pooled(halves.square().mean(2)) - mean.square()
    y = (halves - mean[:, :, None]) / (var + 1e-5).sqrt()[:, :, None]
    y = y.flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]
    close(norm(x), y, x, norm.weight, norm.bias, tolerance=1e-9)


def test_local_context_norm_of_a_wide_window_is_group_norm(library: ModuleType) -> None:
    x = images(2, 6, 5, 4)
    group_norm = nn.GroupNorm(3, 6).double()
    close(library.LocalContextNorm(6)(x), group_norm(x), x, tolerance=1e-10)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (5, 3), (1, 7)])
def test_divisive_norm_by_average_pooling(first: int, second: int, library: ModuleType) -> None:
    x = images(2, 4, 6, 7)
    centred = x - avg_pool2d(x.mean(1, keepdim=True), first, 1, first // 2)
    energy = avg_pool2d(centred.square().mean(1, keepdim=True), second, 1, second // 2)
    close(library.DivisiveNorm(4, first, second)(x), centred / (energy + 1).sqrt(), x)


def test_cumulative_layer_norm_knows_no_future(library: ModuleType) -> None:
    """Each frame by all frames up to it; and frames that come later change nothing."""
    x = images(2, 3, 7)
    norm = library.CumulativeLayerNorm(3).double()
    frames = []
    for t in range(7):
        past = x[:, :, : t + 1]
        mean, var = past.mean((1, 2)), past.var((1, 2), correction=0)
        frames.append((x[:, :, t] - mean[:, None]) / (var + 1e-8).sqrt()[:, None])
    y = torch.stack(frames, 2) * norm.weight[:, None] + norm.bias[:, None]
    close(norm(x), y, x, norm.weight, norm.bias, tolerance=1e-10)
    assert torch.equal(norm(x)[:, :, :4], norm(x[:, :, :4]))


def pcen(norm: nn.Module, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Zeghidour et al., 2021, frame by frame."""
    alpha, root = norm.alpha.clamp(max=1)[:, None], norm.root.clamp(min=1)[:, None]
    delta, share = norm.delta[:, None], norm.smooth.clamp(0, 1)
    averages = []
    for frame in x.unbind(2):
        state = (1 - share) * state + share * frame
        averages.append(state)
    m = torch.stack(averages, 2)
    y = (x / (1e-12 + m) ** alpha + delta) ** (1 / root) - delta ** (1 / root)
    return y, state


def test_pcen_frame_by_frame(library: ModuleType) -> None:
    x = (images(2, 3, 33).detach().abs() + 0.1).requires_grad_()
    norm = library.PCEN(3).double()
    wanted, _ = pcen(norm, x, x[:, :, 0])
    close(norm(x), wanted, x, *norm.parameters(), tolerance=1e-9)


def test_streaming_pcen_goes_on_from_piece_to_piece(library: ModuleType) -> None:
    x = images(2, 3, 33).detach().abs() + 0.1
    norm = library.StreamingPCEN(3).double()
    whole, state = norm(x)
    wanted, last = pcen(norm, x, torch.zeros(2, 3, dtype=F64))
    torch.testing.assert_close((whole, state), (wanted, last))
    first = norm(x[:, :, :20])
    second = norm(x[:, :, 20:], first.state)
    torch.testing.assert_close(torch.cat([first.y, second.y], 2), whole)
    torch.testing.assert_close(second.state, state)


def test_adjacency_norm_by_a_dense_adjacency(library: ModuleType) -> None:
    """As PyG has it, `edge_index` holds sources and then targets."""
    edges = torch.tensor([[0, 1, 2, 2, 3, 1], [1, 0, 0, 1, 1, 3]])
    x = images(5, 4)
    norm = library.AdjacencyNorm(4).double()
    rows = to_dense_adj(edges, max_num_nodes=5)[0].t().double() + torch.eye(5, dtype=F64)
    count = rows.sum(1) * 4
    mean = (rows @ x).sum(1) / count
    away = (x[None] - mean[:, None, None]).square().sum(2)
    var = (rows * away).sum(1) / count
    y = (x - mean[:, None]) / (var + 1e-5).sqrt()[:, None] * norm.weight + norm.bias
    close(norm(x, edges), y, x, norm.weight, norm.bias)
    alone = norm(x, edges[:, :0])
    close(alone, torch.nn.functional.layer_norm(x, (4,)), x)
    with pytest.raises(ValueError, match=r"AdjacencyNorm: edge_index has shape \[3, 2\]"):
        norm(x, torch.zeros(3, 2, dtype=torch.long))


def test_doubly_stochastic_rows_and_columns_sum_to_one(library: ModuleType) -> None:
    points = torch.randn(12, 3, dtype=F64, requires_grad=True)
    gaps = points[:, None] - points[None] + torch.eye(12, dtype=F64)[..., None]  # no root of zero
    distance = gaps.square().sum(-1).sqrt()
    w = library.DoublyStochastic(bandwidth=2.0)(distance)
    one = torch.ones(12, dtype=F64)
    torch.testing.assert_close(w.sum(0), one)
    torch.testing.assert_close(w.sum(1), one)
    assert w.diagonal().eq(0).all()
    (gradient,) = torch.autograd.grad(w.square().sum(), points)
    assert bool(gradient.isfinite().all())
    assert library.DoublyStochastic(steps=0)(distance).gt(0).sum() == 12 * 11
    short = library.DoublyStochastic(steps=3)
    assert torch.autograd.gradcheck(short, (distance.detach()[:4, :4].clone().requires_grad_(),))


def test_sparse_switch_norm_from_a_mixture_to_a_choice(library: ModuleType) -> None:
    """The radius is an attribute that a training loop may change; a large one chooses for good."""
    x = images(4, 3, 5)
    norm = library.SparseSwitchNorm(3).double()
    with torch.no_grad():
        norm.mean_weight.copy_(torch.tensor([0.9, 1.2, 1.0]))
        norm.var_weight.copy_(torch.tensor([1.0, 1.0, 1.3]))
    mixed = norm(x)
    norm.radius = 0.9
    mean = x.mean((1, 2), keepdim=True)
    var = x.var((0, 2), correction=0, keepdim=True)
    chosen = norm(x)
    torch.testing.assert_close(chosen, (x - mean) / (var + 1e-5).sqrt())
    assert float((mixed - chosen).abs().max().detach()) > 1e-3
    gradients = torch.autograd.grad(chosen.square().sum(), [x, *norm.parameters()])
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_sparse_switch_norm_begins_as_the_plain_mean_of_three(library: ModuleType) -> None:
    x = images(4, 3, 5)
    sparse, switch = library.SparseSwitchNorm(3).double(), library.SwitchNorm(3).double()
    close(sparse(x), switch(x), x)


def test_formulas_of_small_norms(library: ModuleType) -> None:
    x, rows = images(3, 4, 5), images(6, 8)
    scale = library.ScaleNorm(8).double()
    assert scale.g.item() == pytest.approx(8**0.5)
    unit = rows / rows.norm(dim=-1, keepdim=True)
    close(scale(rows), scale.g * unit, rows, scale.g)
    pixel = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    close(library.PixelNorm()(x), pixel, x)
    response = library.FilterResponseNorm(4).double()
    wanted = relu(x / (x.square().mean(2, keepdim=True) + 1e-6).sqrt())
    close(response(x), wanted, x)
    last = images(2, 3, 4, 5)
    globally = library.GlobalResponseNorm(5).double()
    torch.testing.assert_close(globally(last), last)
    with torch.no_grad():
        globally.weight.fill_(0.5)
    energy = last.norm(dim=(1, 2), keepdim=True)
    wanted = last * (1 + 0.5 * energy / (energy.mean(-1, keepdim=True) + 1e-6))
    close(globally(last), wanted, last)


def test_a_second_moment_about_a_value_is_zero_where_there_are_no_neighbours() -> None:
    text = """
    norm About {
      input  x[V, C], near: edges[V], group: index[V]
      let    mean = mean(x over V: near)
      let    own = var(x over V: near, about = 2)
      let    scaled = var(x over V: near, about = 3 * mean)
      output x * 0 + own, scaled = scaled, groups = var(x over V: group, about = 2)
    }
    """
    x = torch.tensor([[1.0], [3.0], [6.0]])
    near, group = torch.tensor([[0, 1], [1, 1]]), torch.tensor([0, 0, 2])
    about_itself, scaled, groups = metanorm.loads(text).About()(x, near, group, group_size=4)
    assert about_itself.flatten().tolist() == [0, 1, 0]  # the mean of (1 - 2)^2 and (3 - 2)^2
    assert scaled.flatten().tolist() == [0, 17, 0]  # about 6
    assert groups.flatten().tolist() == [1, 1, 16]
