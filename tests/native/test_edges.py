"""Kernels that follow the edges of graphs, against plain torch written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from torch import Tensor

from metanorm import loads, runtime

F64 = torch.float64
SPEC = """
norm Adjacent(eps = 1e-5) { input x[V, D = c], e: edges[V]  reduce V: e with self, D  affine D }
norm Apart(eps = 1e-5) { input x[V, D], e: edges[V]  reduce V: e, D }
norm Several { input x[V, D], e: edges[V], keep: mask[V], w[V]
  let m = mean(x over V: e, D where keep weight w)
  output x * sum(x over V: e with self, D) - m, top = max(x over V: e, D), n = count(over V: e) }
norm Heads(eps = 1e-5) { input x[V, H, D], e: edges[V]  reduce V: e with self, D  affine H, D }
norm Graphs(eps = 1e-5) { input x[V, D], e: edges[V], batch: index[V]
  let near = normalize(x over V: e with self, D)
  let graph = normalize(x over V: batch)
  output near + graph }
norm Tracked(eps = 1e-5, momentum = 0.1) { input x[V, D], e: edges[V]
  let near = normalize(x over V: e with self, D)
  let whole = normalize(x over V track momentum)
  output near + whole }
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def graph(nodes: int, edges: int) -> Tensor:
    """Some edges twice, some from a node to itself, and nodes without any."""
    actual = torch.randint(nodes, (2, edges))
    return torch.cat((actual, actual[:, : edges // 3], actual[:1, :1].expand(2, min(edges, 1))), 1)


def adjacency(edges: Tensor, nodes: int, loop: bool) -> Tensor:
    """How many edges lead to the node of a row from that of a column."""
    dense = torch.zeros(nodes, nodes, dtype=F64)
    dense.index_put_((edges[1], edges[0]), torch.ones(edges.shape[1], dtype=F64), accumulate=True)
    return dense + torch.eye(nodes, dtype=F64) * loop


def moments(x: Tensor, links: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the neighbours of each node, in their last dimension, too."""
    share = links / links.sum(1, keepdim=True).clamp_min(1)
    mean = torch.einsum("vu,u...d->v...", share, x) / x.shape[-1]
    gap = x[None] - mean[:, None, ..., None]
    return mean[..., None], torch.einsum("vu,vu...d->v...", share, gap**2)[..., None] / x.shape[-1]


def standard(x: Tensor, links: Tensor) -> Tensor:
    """Zero where there are no neighbours."""
    mean, var = moments(x, links)
    some = (links.sum(1) > 0).view(-1, *[1] * (x.dim() - 1))
    return (x - mean) / (var + 1e-5).sqrt() * some


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SHAPES = [(1, 1, 0), (7, 3, 12), (50, 33, 200), (4000, 17, 40000)]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("nodes", "channels", "edges"), SHAPES[:3])
def test_values_and_gradients(
    norms: ModuleType, nodes: int, channels: int, edges: int, count: int
) -> None:
    torch.manual_seed(0)
    e = graph(nodes, edges)
    x = (torch.randn(nodes, channels, dtype=F64) + 100).requires_grad_()
    norm = norms.Adjacent(channels).double()
    torch.nn.init.normal_(norm.weight)
    with runtime.use("native" if edges else "auto"), threads(count):  # of none, torch's are as good
        y = norm(x, e)
        d = torch.randn_like(y)
        gradients = torch.autograd.grad(y, (x, norm.weight, norm.bias), d)
    right = standard(x, adjacency(e, nodes, True)) * norm.weight + norm.bias
    torch.testing.assert_close(y, right, rtol=1e-9, atol=1e-9)
    for g, w in zip(gradients, torch.autograd.grad(right, (x, norm.weight, norm.bias), d)):
        torch.testing.assert_close(g, w, rtol=1e-7, atol=1e-7)


def test_sums_are_the_same_each_time_and_on_any_number_of_threads(norms: ModuleType) -> None:
    torch.manual_seed(0)
    nodes, channels, edges = SHAPES[-1]
    e, x = graph(nodes, edges), torch.randn(nodes, channels, requires_grad=True)
    results = []
    for count in (1, 2, 2):
        with runtime.use("native"), threads(count):
            y = norms.Apart()(x, e)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for y, g in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(g, results[0][1])


def test_nodes_without_edges_are_zero(norms: ModuleType) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    e = torch.tensor([[0, 1], [2, 2]])  # only the third node has neighbours
    with runtime.use("native"):
        y = norms.Apart()(x, e)
        (g,) = torch.autograd.grad(y.sum(), x)
    assert not y[[0, 1, 3]].any() and y[2].all()
    assert not g[3].any()


def test_masks_weights_and_other_statistics(norms: ModuleType) -> None:
    torch.manual_seed(0)
    nodes = 9
    e, keep = graph(nodes, 20), torch.rand(nodes) > 0.4
    x, w = (torch.randn(s, dtype=F64).requires_grad_() for s in ((nodes, 5), (nodes,)))
    with runtime.use("native"):
        actual = norms.Several()(x, e, keep, w)
        d = [torch.randn_like(o) for o in actual]
        got = torch.autograd.grad(list(actual), (x, w), d)
    links = adjacency(e, nodes, False)
    weights = links * keep * w
    total = weights.sum(1)
    m = torch.where(total == 0, 0, (weights @ x.mean(1)) / torch.where(total == 0, 1, total))
    rows = x.amax(1).expand(nodes, nodes).masked_fill(links == 0, -torch.inf)
    top = torch.where(links.sum(1) == 0, 0, rows.amax(1))
    sums = (links + torch.eye(nodes, dtype=F64)) @ x.sum(1)
    right = (x * sums[:, None] - m[:, None], top, links.sum(1))
    for o, r in zip(actual, right):
        torch.testing.assert_close(o, r, rtol=1e-9, atol=1e-9)
    for g, r in zip(got, torch.autograd.grad(right[:2], (x, w), d[:2])):
        torch.testing.assert_close(g, r, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_and_layouts(norms: ModuleType, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    nodes = 30
    e = graph(nodes, 90).t().contiguous().t()  # pairs side by side
    x = torch.randn(6, 2, nodes).permute(2, 1, 0).to(dtype).requires_grad_()
    norm = norms.Heads(2, 6)
    with runtime.use("native"):
        y = norm(x, e)
        (g,) = torch.autograd.grad(y.float().square().sum() / 2, x)
    wide = x.detach().double().requires_grad_()
    right = standard(wide, adjacency(e, nodes, True))
    (w,) = torch.autograd.grad(right.square().sum() / 2, wide)
    eps = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(y, right.to(dtype), rtol=eps, atol=eps)
    torch.testing.assert_close(g.double(), w, rtol=0, atol=eps * float(w.abs().max()) + 4 * eps)


@pytest.mark.parametrize("count", [1, 2])
def test_edges_between_graphs(norms: ModuleType, count: int) -> None:
    """Many graphs, which are no islands where edges lead from one to another."""
    torch.manual_seed(0)
    nodes = 3000
    e, batch = graph(nodes, 9000), torch.arange(nodes) // 3
    x = torch.randn(nodes, 20, requires_grad=True)
    results = []
    for target in ("native", "torch"):
        with runtime.use(target), threads(count):
            y = norms.Graphs()(x, e, batch)
            results.append((y.detach(), *torch.autograd.grad(y.square().sum(), x)))
    for kernel, plain in zip(*results):
        torch.testing.assert_close(kernel, plain, rtol=1e-3, atol=1e-3)


def test_beside_running_statistics(norms: ModuleType) -> None:
    torch.manual_seed(0)
    x, e, norm = torch.randn(8, 3, dtype=F64), graph(8, 16), norms.Tracked(3).double()
    twin = norms.Tracked(3).double()
    for _ in range(2):
        with runtime.use("native"):
            y = norm(x, e)
        with runtime.use("torch"):
            torch.testing.assert_close(y, twin(x, e))
    torch.testing.assert_close(norm.running_var, twin.running_var)
    with runtime.use("native"):
        y = norm.eval()(x, e)
    torch.testing.assert_close(y, twin.eval()(x, e))


@pytest.mark.parametrize("bad", [[[0], [5]], [[5], [0]], [[-1], [0]], [[0], [-1]]])
def test_nodes_that_are_not_there(norms: ModuleType, bad: list[list[int]]) -> None:
    """Are the same error as without kernels, and again after a call that went well."""
    norm, x = norms.Apart(), torch.randn(5, 3)
    norm(x, torch.tensor([[0], [4]]))
    for target in ("torch", "auto"):
        with runtime.use(target), pytest.raises(IndexError, match="of edges"):
            norm(x, torch.tensor(bad))


def test_edges_of_another_type_are_left_to_torch(norms: ModuleType) -> None:
    norm, x, e = norms.Apart(), torch.randn(5, 3), torch.tensor([[0, 1], [4, 4]])
    torch.testing.assert_close(norm(x, e.int()), norm(x, e))
    with runtime.use("native"), pytest.raises(RuntimeError, match="int64"):
        norm(x, e.int())
    with pytest.raises(TypeError):
        norm(x, e.float())


def test_edges_that_somebody_writes_to_between_the_directions(norms: ModuleType) -> None:
    x, e = torch.randn(5, 3, requires_grad=True), torch.tensor([[0, 1], [4, 4]])
    with runtime.use("native"):
        y = norms.Apart()(x, e)
        e.numpy()[0, 1] = 7
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()


def test_new_edges_in_the_same_memory_are_seen(norms: ModuleType) -> None:
    x, e = torch.randn(5, 3, dtype=F64), torch.tensor([[0, 1], [4, 4]])
    with runtime.use("native"):
        norms.Apart()(x, e)
        e.numpy()[:] = [[2, 3], [0, 0]]
        y = norms.Apart()(x, e)
    torch.testing.assert_close(y, standard(x, adjacency(e, 5, False)))
