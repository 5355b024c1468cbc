"""Pools along edges, against PyG and against dense adjacency."""

from __future__ import annotations

import pytest
import torch
from naive import F64
from torch import Tensor
from torch_geometric.nn.aggr import MaxAggregation, MeanAggregation, SumAggregation, VarAggregation
from torch_geometric.utils import add_self_loops

from metanorm import runtime

EDGES = torch.tensor([[0, 1, 2, 2, 4, 1, 1], [1, 0, 0, 1, 1, 4, 4]])  # to 2 and 3 there is none
NODES = 5


def features() -> Tensor:
    return torch.randn(NODES, 3, dtype=F64, requires_grad=True)


@pytest.mark.parametrize("loop", [False, True])
def test_statistics_are_those_of_pyg(loop: bool) -> None:
    """Sources in the first row, targets in the second; what is gathered belongs to the target."""
    x = features()
    edges = add_self_loops(EDGES, num_nodes=NODES)[0] if loop else EDGES
    along = {0: runtime.Neighbours(EDGES, NODES, loop=loop)}
    mean, var = runtime.moments_along(x, along)
    results = {
        MeanAggregation(): mean,
        SumAggregation(): runtime.total_along(x, along),
        MaxAggregation(): runtime.largest_along(x, along),
        VarAggregation(semi_grad=False): var,
    }
    for aggregation, ours in results.items():
        theirs = aggregation(x[edges[0]], edges[1], dim_size=NODES)
        torch.testing.assert_close(ours, theirs)
        gradients = [
            torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (ours, theirs)
        ]
        torch.testing.assert_close(*gradients)


def test_nodes_without_neighbours_give_zero() -> None:
    x = features()
    along = {0: runtime.Neighbours(EDGES, NODES)}
    for statistic in (*runtime.moments_along(x, along), runtime.smallest_along(x, along)):
        assert statistic[[2, 3]].eq(0).all()
        assert statistic[[0, 1]].ne(0).any()


@pytest.mark.parametrize("nodes", [0, 1, 4])
def test_no_edges_and_no_nodes(nodes: int) -> None:
    x = torch.randn(nodes, 3, requires_grad=True)
    along = {0: runtime.Neighbours(torch.zeros(2, 0, dtype=torch.long), nodes)}
    mean, var = runtime.moments_along(x, along)
    assert mean.shape == var.shape == x.shape
    assert mean.eq(0).all()
    (gradient,) = torch.autograd.grad((mean + var + runtime.largest_along(x, along)).sum(), x)
    assert gradient.eq(0).all()
    itself = {0: runtime.Neighbours(torch.zeros(2, 0, dtype=torch.long), nodes, loop=True)}
    torch.testing.assert_close(runtime.mean_along(x, itself), x)


def test_gradients() -> None:
    x, weight = features(), (torch.rand(NODES, 1, dtype=F64) + 0.1).requires_grad_()
    neighbours = runtime.Neighbours(EDGES, NODES, loop=True)

    def moments(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        plain = runtime.moments_along(x, {0: neighbours}, dim=(1,))
        return *plain, *runtime.moments_along(x, {0: neighbours}, weight=weight)

    assert torch.autograd.gradcheck(moments, (x, weight), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(moments, (x, weight))


def test_groups_along_with_windows() -> None:
    index = torch.tensor([1, 0, 1, 1])
    x = torch.randn(4, 6, dtype=F64)
    members = runtime.Members(runtime.Groups(index, 3, 4))
    mean, var = runtime.moments_along(x, {0: members, 1: runtime.Causal(2)})
    assert mean.shape == (3, 6)
    assert mean[2].eq(0).all()
    pool = x[index == 1][:, 2:4]
    torch.testing.assert_close(var[1, 3], pool.var(correction=0))


def test_edges_are_integers() -> None:
    with pytest.raises(TypeError, match="expected integers, got torch"):
        runtime.Neighbours(torch.zeros(2, 3), 4)


@pytest.mark.parametrize(("row", "what"), [(0, "sources"), (1, "targets")])
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(("node", "ends"), [(-1, "from -1 to 2"), (4, "from 2 to 4")])
def test_edges_name_nodes(row: int, what: str, node: int, ends: str, loop: bool) -> None:
    edges = torch.full((2, 3), 2)
    edges[row, 1] = node
    with pytest.raises(IndexError, match=f"{what} of edges run {ends}, and the nodes from 0 to 3"):
        runtime.Neighbours(edges, 4, loop)
