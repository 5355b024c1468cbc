"""Axes, inputs and pools of the language page, each by hand in plain torch."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor

from metanorm import loads, runtime

references = References()
F64 = torch.float64
EDGES = torch.tensor([[0, 1, 1, 3, 3, 4], [1, 0, 2, 2, 2, 0]])  # one of them twice, none to 3 and 4


def standard(x: Tensor, dim: int | tuple[int, ...], eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(dim, keepdim=True) + eps)


@references("norm Everything { input x[N, C, *S]  output normalize(x over N, *S) }",
            x=(3, 2, 4, 5))  # fmt: skip
def everything(x: Tensor) -> Tensor:
    return standard(x, (0, 2, 3))


@references("norm NoSpatial { input x[N, C, *S]  output normalize(x over C, *S) }", x=(3, 4))
def no_spatial(x: Tensor) -> Tensor:
    return standard(x, 1)


@references("norm InBlocks { input x[N, C, *S]  output normalize(x over C: blocks(2), *S) }",
            x=(3, 6, 4))  # fmt: skip
def in_blocks(x: Tensor) -> Tensor:
    return standard(x.view(3, 2, 3, 4), (2, 3)).view(3, 6, 4)


@references("norm InChunks(size: int) { input x[N, C]  output x - mean(x over C: chunks(size)) }",
            x=(3, 6), arguments={"size": 2})  # fmt: skip
def in_chunks(x: Tensor) -> Tensor:
    cut = x.view(3, 3, 2)
    return (cut - cut.mean(2, keepdim=True)).view(3, 6)


@references("norm Interleaved { input x[N, C]  output x - max(x over C: interleave(2)) }", x=(3, 6))
def interleaved(x: Tensor) -> Tensor:
    cut = x.view(3, 3, 2)
    return (cut - cut.amax(1, keepdim=True)).view(3, 6)


@references(
    "norm CutTwice { input x[N, C]  let m = mean(x over C: blocks(2))\n"
    " output x + sum(m over C) + mean(m * m over C: interleave(3)) }",
    x=(3, 6), torch_only="cells of two kinds along one axis",
)  # fmt: skip
def cut_twice(x: Tensor) -> Tensor:
    """What is pooled by blocks counts for each position."""
    m = x.view(3, 2, 3).mean(2, keepdim=True).expand(3, 2, 3).reshape(3, 6)
    square = (m * m).view(3, 2, 3).mean(1)
    return x + m.sum(1, keepdim=True) + square.repeat(1, 2)


@references(
    "norm BlocksInEvaluation { input x[N, C, H, W]\n"
    " output mode(train: 2 * x, eval: mean(x over C: blocks(2), W: blocks(2))) }",
    x=torch.randn(2, 4, 3, 6, dtype=F64).contiguous(memory_format=torch.channels_last),
)  # fmt: skip
def blocks_in_evaluation(x: Tensor, training: bool) -> Tensor:
    """The result is a value of blocks alone, in a norm that reads all of its input elsewhere."""
    if training:
        return 2 * x
    cells = x.reshape(2, 2, 2, 3, 2, 3).mean((2, 5), keepdim=True)
    return cells.expand(2, 2, 2, 3, 2, 3).reshape(2, 4, 3, 6)


@references(
    "norm LengthsByBatch { input x[N, V], batch: index[V]  let size = count(over N, V: blocks(2))\n"
    " output x + normalize(size over V: batch) + mean(size over V: batch) }",
    x=(3, 6), batch=torch.tensor([0, 2, 0, 2, 2, 0]), torch_only="the length of V/blocks(2) is not known",
)  # fmt: skip
def lengths_by_batch(x: Tensor, batch: Tensor) -> Tensor:
    """Each half of V has nine elements, which is one number, and has no variance."""
    return x + 9


@references("norm ByBatch { input x[V, C], batch: index[V]  output normalize(x over V: batch) }",
            x=(6, 2), batch=torch.tensor([0, 2, 0, 2, 2, 0]))  # fmt: skip
def by_batch(x: Tensor, batch: Tensor) -> Tensor:
    parts = [standard(x[batch == b], 0) for b in range(3)]
    return sum(
        torch.zeros_like(x).index_put((batch == b,), p) for b, p in enumerate(parts) if len(p)
    )  # type: ignore


@references("norm OneBatch { input x[V, C], batch: index[V]  output x - mean(x over V: batch) }",
            x=(6, 2), batch=None)  # fmt: skip
def one_batch(x: Tensor) -> Tensor:
    return x - x.mean(0)


@references(
    "norm ByLabel { input x[N, C = c], label: index[N] of K = num_classes\n"
    " param table[K, C] = 1  output x * table[label] - mean(x over N: label) }",
    x=(4, 2), label=torch.tensor([2, 0, 2, 2]), arguments={"num_classes": 3, "c": 2},
)  # fmt: skip
def by_label(x: Tensor, label: Tensor, table: Tensor) -> Tensor:
    same = (label[:, None] == label).double()
    return x * table[label] - same @ x / same.sum(1, keepdim=True)


def weighed(x: Tensor, matrix: Tensor) -> Tensor:
    """The mean along the last axis by the rows of a matrix, zero where one is empty."""
    total = matrix.sum(1)
    return torch.where(total > 0, x @ matrix.T / total.clamp(min=1e-300), 0)


def past(n: int, reach: int) -> Tensor:
    return torch.ones(n, n, dtype=F64).tril().triu(1 - reach)


@references(
    "norm Windows { input x[N, T]  let m = moments(x over T: window(3))\n"
    " output (x - m.mean) / sqrt(m.var + 1e-3) + mean(x over T: window(2)) }",
    x=(2, 5),
)  # fmt: skip
def windows(x: Tensor) -> Tensor:
    near = past(5, 2) + past(5, 2).T - torch.eye(5)
    mean = weighed(x, near)
    var = torch.stack([weighed((x - mean[:, [i]]) ** 2, near)[:, i] for i in range(5)], 1)
    return (x - mean) / torch.sqrt(var + 1e-3) + weighed(x, past(5, 2))


@references(
    "norm WindowEdges { input x[N, T]  output mean(x over T: window(3, edge = zero))"
    " + max(x over T: window(3, edge = zero)) + mean(x over T: window(5, edge = replicate))"
    " + std(x over T: window(2, edge = truncate)) }",
    x=(2, 5), torch_only="max of windows, which overlap",
)  # fmt: skip
def window_edges(x: Tensor) -> Tensor:
    zeros = torch.nn.functional.pad(x, (1, 1)).unfold(1, 3, 1)
    first, last = x[:, :1], x[:, -1:]
    again = torch.cat((first, first, x, last, last), 1).unfold(1, 5, 1)
    pairs = [x[:, max(i - 1, 0) : i + 1] for i in range(5)]
    spread = [
        torch.zeros_like(x[:, 0]) if len(p.T) == 1 else p.std(1, unbiased=False) for p in pairs
    ]
    return zeros.mean(2) + zeros.amax(2) + again.mean(2) + torch.stack(spread, 1)


@references("norm Causal { input x[N, C, T]  output mean(x over C, T: causal) + sum(x over T: causal(2))"
            " + var(x over T: causal) }", x=(2, 3, 4))  # fmt: skip
def causal(x: Tensor) -> Tensor:
    mean = weighed(x.mean(1, keepdim=True), past(4, 4))
    variances = torch.stack([x[..., : t + 1].var(2, unbiased=False) for t in range(4)], 2)
    return mean + x @ past(4, 2).T + variances


@references(
    "norm Neighbours { input x[V, C], edge_index: edges[V]\n"
    " output x - mean(x over V: edge_index) + max(x over V: edge_index with self) + sum(x over V: edge_index) }",
    x=(5, 2), edge_index=EDGES, torch_only="neighbours in a graph, whose pools overlap",
)  # fmt: skip
def neighbours(x: Tensor, edge_index: Tensor) -> Tensor:
    rows = []
    for v in range(5):
        neighbours = x[edge_index[0, edge_index[1] == v]]
        most = torch.cat((neighbours, x[v : v + 1])).amax(0)
        rows.append(
            x[v] + most + neighbours.sum(0) - (neighbours.mean(0) if len(neighbours) else 0)
        )
    return torch.stack(rows)


MATRIX = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.3, 0.2], [1.0, 1.0, 1.0]], dtype=F64)


@references(
    "norm ByMatrix { input x[N, C, T], near: matrix[T, T]\n output mean(x over T: near) + sum(x over T: near)"
    " + var(x over C, T: near) + count(over T: near) }",
    x=(2, 2, 3), near=MATRIX, torch_only="a pool by a given matrix or a graph",
)  # fmt: skip
def by_matrix(x: Tensor, near: Tensor) -> Tensor:
    total = near.sum(1)
    shares = near / total[:, None]
    mean = x.mean(1) @ shares.T
    spread = [((x - mean[:, None, [t]]) ** 2).mean(1) @ shares[t] for t in range(3)]
    return x @ shares.T + x @ near.T + torch.stack(spread, 1)[:, None] + total


@references("norm ByHyper(U: matrix[N, N] = eye) { input x[N, C]  output x + mean(x over N: U) }",
            x=(4, 3), arguments={"U": "blocks(2)"}, torch_only="a pool by a given matrix or a graph")  # fmt: skip
def by_hyper(x: Tensor) -> Tensor:
    return x + x.view(2, 2, 3).mean(1, keepdim=True).expand(2, 2, 3).reshape(4, 3)


@references("norm LearnedMatrix { input x[N, C = 3]  param U[C, C] = 1  output x - mean(x over C: U) }",
            x=(4, 3), torch_only="a pool by a given matrix or a graph")  # fmt: skip
def learned_matrix(x: Tensor, U: Tensor) -> Tensor:
    return x - x @ (U / U.sum(1, keepdim=True)).T


KEEP = torch.tensor(
    [[True, False, True, True], [False, False, False, False], [True, True, False, True]]
)
WEIGHT = torch.tensor([[0.5, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.0]], dtype=F64)


@references("norm Middle { input x[N, C, *S]\n"
            " output x * median(x over N, *S) + median(x over C: blocks(2)) + median(abs(x) over N) }",
            x=(3, 4, 5), torch_only="a statistic that is found in the order of the values")  # fmt: skip
def middle(x: Tensor) -> Tensor:
    """Of fifteen values, of two and of three, by torch alone."""
    whole = x.transpose(0, 1).flatten(1).median(1).values
    blocks = x.view(3, 2, 2, 5).mean(2, keepdim=True).expand(3, 2, 2, 5).reshape(3, 4, 5)
    return x * whole[:, None] + blocks + x.abs().median(0).values


@references("norm Shares(q = 0.3) { input x[N, C, T]\n"
            " output x * quantile(x over N, T, q = q) + quantile(x over T, q = 1)"
            " - quantile(x over C: interleave(2), q = 0) }", x=(3, 4, 5),
            torch_only="a statistic that is found in the order of the values")  # fmt: skip
def shares(x: Tensor) -> Tensor:
    rows = x.transpose(0, 1).flatten(1)
    between = torch.quantile(rows, 0.3, dim=1)[:, None]
    return x * between + x.amax(2, keepdim=True) - x.view(3, 2, 2, 5).amin(1).repeat(1, 2, 1)


@references("norm CellsThatWeigh { input x[N, C, T]\n"
            " let w = mean(x^2 over C, T, N: interleave(2))\n"
            " let s = sum(x over C, T)\n"
            " output x - mean(x over N: blocks(2) weight w)"
            " + count(over N: blocks(2) weight w) * count(over N, C: blocks(2) where s > 0) }",
            x=(4, 4, 3), torch_only="cells of two kinds along one axis")  # fmt: skip
def cells_that_weigh(x: Tensor) -> Tensor:
    """Weights on other cells of the pooled axis, and a mask that lacks one of the pooled axes."""
    w = x.square().view(2, 2, 4, 3).mean((0, 2, 3)).repeat(2)[:, None, None]
    blocks = (2, 2, 4, 3)
    total = w.view(2, 2, 1, 1).sum(1, keepdim=True)
    mean = (x * w).view(blocks).sum(1, keepdim=True) / total
    positive = 2 * (x.sum((1, 2)) > 0).sum()
    return (x.view(blocks) - mean + total * positive).reshape(x.shape)


SOME_ROWS = torch.tensor([[True, False, True, True, True], [False] * 5, [False] * 4 + [True]])


@references("norm MaskedShares { input x[N, C, T], keep: mask[N, T]\n"
            " output x + median(x over T where keep) + quantile(x over T where keep, q = 0.9)"
            " + median(x over N, T where keep) }", x=(3, 4, 5), keep=SOME_ROWS,
            torch_only="a statistic that is found in the order of the values")  # fmt: skip
def masked_shares(x: Tensor, keep: Tensor) -> Tensor:
    """Row by row; what counts nothing is zero."""
    rows = []
    for row, counts in zip(x, keep):
        counted = row[:, counts]
        some = counted.shape[1] > 0
        zero = row.sum(1) * 0
        both = [torch.quantile(counted, q, dim=1) if some else zero for q in (0.5, 0.9)]
        rows.append((both[0] + both[1])[:, None])
    whole = torch.quantile(x.transpose(1, 2)[keep], 0.5, dim=0)[:, None]
    return x + torch.stack(rows) + whole


@references(
    "norm Masked { input x[N, T], keep: mask[N, T] = true, trust[N, T] = 1\n"
    " output x * mean(x over T where keep weight trust) + var(x over T where keep weight trust)"
    " + sum(x over T weight trust) + l2(x over T where keep) + max(x over T where keep)"
    " + normalize(x over T where keep weight trust) }",
    x=(3, 4), keep=KEEP, trust=WEIGHT,
)  # fmt: skip
def masked(x: Tensor, keep: Tensor, trust: Tensor) -> Tensor:
    """In the second row nothing counts: all is zero, and so are gradients."""
    rows = []
    for row, kept, w in zip(x, keep, trust):
        combined = torch.zeros_like(row) + (w * row).sum()
        if kept.any():
            there, weight = row[kept], w[kept] / w[kept].sum()
            mean = (weight * there).sum()
            var = (weight * (there - mean) ** 2).sum()
            combined = combined + row * mean + var + there.norm() + there.max()
            combined = combined + (row - mean) / torch.sqrt(var + 1e-5)
        rows.append(combined)
    return torch.stack(rows)


@references(
    "norm MaskedWide { input x[N, C, T], keep: mask[N, T], w[C]\n"
    " output x + mean(x over T where keep weight w) + mean(x over C, T where keep weight w)"
    " + mean(x over N: blocks(1), T where keep) }",
    x=(2, 3, 4), keep=KEEP[[0, 2]], w=torch.tensor([0.5, 1.0, 2.0], dtype=F64),
)  # fmt: skip
def masked_wide(x: Tensor, keep: Tensor, w: Tensor) -> Tensor:
    inside = keep[:, None].double()
    both = inside * w[:, None]
    along = (x * inside).sum(2, keepdim=True) / inside.sum(2, keepdim=True)
    whole = (x * both).sum((1, 2), keepdim=True) / both.sum((1, 2), keepdim=True)
    batch = (x * inside).sum((0, 2)) / inside.sum()
    return x + along + whole + batch[:, None]


@references(
    "norm WhereComputed { input x[N, C]  output x - mean(x over C where x > 0) + count(over C where x > 0) }",
    x=(3, 5),
)  # fmt: skip
def where_computed(x: Tensor) -> Tensor:
    inside = (x > 0).double()
    total = inside.sum(1, keepdim=True)
    return x - (x * inside).sum(1, keepdim=True) / total.clamp(min=1) + total


@references(
    "norm NothingIsNan { input x[N, C], keep: mask[N, C]  output where(keep, x - mean(x over C where keep), 0) }",
    x=torch.tensor([[1.0, 3.0, torch.nan], [torch.inf, 2.0, 5.0]], dtype=F64),
    keep=torch.tensor([[True, True, False], [False, True, True]]),
)  # fmt: skip
def nothing_is_nan(x: Tensor, keep: Tensor) -> Tensor:
    rows = [row[kept] - row[kept].mean() for row, kept in zip(x, keep)]
    zero = torch.zeros(1, dtype=F64)
    return torch.stack((torch.cat((rows[0], zero)), torch.cat((zero, rows[1]))))


@references(
    "norm LeftOut { input x[N, C], trust[N] = 1, u[N, C] = 0.7, context[M, C] = x, keep: mask[C] = true\n"
    " output x * trust - u * mean(context over M) + sum(x over C where keep) }",
    x=(3, 4), trust=None, u=None, context=None, keep=None,
)  # fmt: skip
def left_out(x: Tensor) -> Tensor:
    return x - 0.7 * x.mean(0) + x.sum(1, keepdim=True)


@references(
    "norm HandedOut { input x[N, C], u[C] = -0.25, v[N] = 1, keep: mask[C] = true\n"
    " output y = x * tanh(l2(x over N)) + u, z = 2 * x + v, a = u, b = 3 * v }",
    x=(3, 4), u=None, v=None, keep=None,
)  # fmt: skip
def handed_out(x: Tensor) -> tuple[Tensor, ...]:
    quarter, one = torch.full((4,), -0.25, dtype=F64), torch.ones(3, dtype=F64)
    return x * torch.tanh(x.norm(dim=0)) - 0.25, 2 * x + 1, quarter, 3 * one


@references(
    "norm Given { input x[N, C], trust[N] = 1, u[N, C] = 0.7, context[M, C] = x, keep: mask[C] = true\n"
    " output x * trust - u * mean(context over M) + sum(x over C where keep) }",
    x=(3, 4), trust=(3,), u=(3, 4), context=(2, 4), keep=torch.tensor([True, False, True, True]),
)  # fmt: skip
def optional_inputs(x: Tensor, trust: Tensor, u: Tensor, context: Tensor, keep: Tensor) -> Tensor:
    return x * trust[:, None] - u * context.mean(0) + x[:, keep].sum(1, keepdim=True)


@references(
    "norm Turned { input x[N, C, T], u[T, N], v[C]  output x + u * v - mean(u over T) }",
    x=(2, 3, 4), u=(4, 2), v=(3,),
)  # fmt: skip
def turned(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return x + u.T[:, None] * v[:, None] - u.mean(0)[:, None, None]


@references(
    "norm Split(groups: int) { input x[N, C = c, *S]  axis C = (G = groups, D)\n param p[C] = 1, q[G] = 1\n"
    " output x * p * q - mean(x over D, *S) + mean(x over C) + size(D) }",
    x=(2, 6, 4), arguments={"groups": 2, "c": 6},
)  # fmt: skip
def split(x: Tensor, p: Tensor, q: Tensor) -> Tensor:
    cut = x.view(2, 2, 3, 4)
    y = cut * p.view(2, 3, 1) * q[:, None, None] - cut.mean((2, 3), keepdim=True)
    return (y + cut.mean((1, 2), keepdim=True) + 3).view(2, 6, 4)


@references(
    "norm Decorrelated(strength = 0.1) { input x[N, T, D]\n let y = x - mean(x over T)\n"
    " let cov = sum(y * y[D -> E] over T) / size(T)\n output y - strength * sum(cov * y[D -> E] over E) }",
    x=(2, 4, 3), torch_only="matrix products, which torch's BLAS does as fast",
)  # fmt: skip
def decorrelated(x: Tensor) -> Tensor:
    y = x - x.mean(1, keepdim=True)
    return y - 0.1 * y @ (y.mT @ y / 4)


MODES = """norm Modes { input x[N, C, *S], g[N, K]
 let m = moments(x over N, *S weight g)
 output sum(g * (x - m.mean) / sqrt(m.var + 0.1) over K) }"""
SHARES = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=F64)


@references(MODES, x=(3, 2, 4, 5), g=SHARES)
def weighed_by_each_of_several(x: Tensor, g: Tensor) -> Tensor:
    """A weight on an axis that x lacks makes a statistic for each of its positions."""
    done = torch.zeros_like(x)
    for k in range(g.shape[1]):
        w = g[:, k].view(-1, 1, 1, 1).expand(3, 1, 4, 5)
        mean = (w * x).sum((0, 2, 3), keepdim=True) / w.sum()
        var = (w * (x - mean) ** 2).sum((0, 2, 3), keepdim=True) / w.sum()
        done = done + w * (x - mean) / torch.sqrt(var + 0.1)
    return done


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("name", references.names())
def test_what_is_written_by_hand_agrees(name: str, target: str) -> None:
    references.check(name, target)


@pytest.mark.parametrize("cut", ["blocks(2)", "chunks(2)", "interleave(2)", "blocks(parts)"])
@pytest.mark.parametrize("split", ["(G = 2, D)", "(D, E = 3)", "(G = 2, D, E = 3)"])
def test_a_part_of_an_axis_that_cannot_be_cut_is_refused(cut: str, split: str) -> None:
    """Kernels went on, beyond the end of the data."""
    spec = f"""
    norm Cut(parts: int = 2) {{ input x[N, C = channels]  axis C = {split}
      output x - mean(x over D: {cut}) }}
    norm Split(parts: int = 2) {{ input x[N, C = channels]  axis C = {split}  param p[D] = 1
      output affine(p * x - mean(x over D: {cut}) per C) }}
    """
    module = loads(spec)
    for norm in (module.Cut, module.Split):
        assert norm(24)(torch.randn(2, 24)).shape == (2, 24)
        odd = 18 if "E" in split and "G" in split else 30 if "G" in split else 15
        with pytest.raises(runtime.ShapeError, match="D = "):
            norm(odd)
        changed = norm(24)
        changed.channels = odd  # kernels look by themselves
        with pytest.raises(RuntimeError):
            changed(torch.randn(2, odd))


def test_the_rows_of_a_table_behind_the_parts_of_an_axis() -> None:
    spec = """
    norm A { input x[N, T, C = channels], label: index[N] of K = 3
      axis   C = (G = 2, D, E = 3)
      param  table[G, D, E, K] = 0.5
      output x - mean(x + table[label] over N: label, T, G, E) }
    """
    norm, label = loads(spec).A(12), torch.tensor([0, 2, 0, 0])
    x = torch.randn(4, 3, 12)
    with torch.no_grad():
        norm.table.copy_(torch.randn(12, 3))
    parts = (x + norm.table.T[label][:, None]).view(4, 3, 2, 2, 3)
    means = torch.stack([parts[label == k].mean((0, 1, 2, 4)) for k in label.tolist()])
    expected = x.view(4, 3, 2, 2, 3) - means.view(4, 1, 1, 2, 1)
    torch.testing.assert_close(norm(x, label), expected.view(4, 3, 12))
