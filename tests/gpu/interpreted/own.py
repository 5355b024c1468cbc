"""Norms of kinds that the library lacks, on each schedule, against the torch target."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from silence import quiet
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "native"))
from layers import agree, everything, weighted

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.runtime.triton import tiles
from metanorm.runtime.triton.tiles import DataPass
from metanorm.targets.live import module_from_files
from metanorm.workspace import STDIN, load

__all__ = ["quiet"]  # a fixture for every test

BATCH = torch.tensor([2, 0, 2, 5, 0, 0])
EDGES = torch.tensor([[5, 0, 3, 3, 1, 2, 0], [1, 2, 2, 2, 4, 4, 0]])

# A norm, the arguments of its class, the shape of its input, its other inputs.
NORMS: dict[str, tuple[str, dict[str, int], tuple[int, ...], dict[str, Tensor]]] = {
    "results of all sizes, in any order": (
        """
        input  x[N, C, *S]
        let    m = moments(x over *S)
        output (x - m.mean) / sqrt(m.var + 1e-5), mean = m.mean, less = x - m.mean,
               total = l2(x over N, C, *S), var = m.var, square = x^2
        """,
        {}, (3, 4, 5), {},
    ),
    "a small result between large ones": (
        """
        input  x[N, T, D]
        let    r = rms(x over D)
        output x / r, r = r, twice = 2 * x
        """,
        {}, (3, 4, 5), {},
    ),
    "results for blocks of an axis": (
        """
        input  x[N, C, *S]
        let    m = moments(x over C: blocks(groups), *S)
        output (x - m.mean) / sqrt(m.var + 1e-5), mean = m.mean, var = m.var
        """,
        {"groups": 3}, (2, 15, 4), {},
    ),
    "results for heads, of which no parameter has the length": (
        """
        input  x[N, T, D]
        axis   D = (H = groups, K)
        let    r = rms(x over K)
        output x / r, r = r, low = mean(r over T)
        """,
        {"groups": 3}, (2, 4, 15), {},
    ),
    "statistics of graphs with their channels and without": (
        """
        input  x[V, C], batch: index[V]
        let    m = moments(x over V: batch)
        let    l = moments(x over V: batch, C)
        output 0.4 * (x - 0.7 * m.mean) / sqrt(m.var + 1e-5)
               + 0.6 * (x - l.mean) / sqrt(l.var + 1e-5)
        """,
        {}, (6, 3), {"batch": BATCH},
    ),
    "groups beside another axis that is pooled": (
        """
        input  x[V, T, C], batch: index[V]
        let    m = moments(x over V: batch, T)
        output (x - m.mean) / sqrt(m.var + 1e-5)
        """,
        {}, (6, 2, 3), {"batch": BATCH},
    ),
    "an axis that is cut in one mode alone": (
        """
        input  x[N, T, C = 4]
        param  p[C] = 1
        output mode(train: normalize(x * p over T, C: chunks(2)) + normalize(p over C: chunks(2)),
                    eval: x * softmax(p over C))
        """,
        {}, (2, 3, 4), {},
    ),
    "extremes of islands, and of those": (
        """
        input  x[N, C, *S]
        let    high = max(x over *S)
        let    low = min(x over *S)
        let    top = max(high over N)
        output (x - low) / (high - low + 1) + min(top over C)
        """,
        {}, (3, 4, 5), {},
    ),
    "extremes of what lies apart": (
        """
        input  x[N, C, *S]
        output x * max(x over C: blocks(2), *S) - max(x over N, *S) + min(x over C)
        """,
        {}, (3, 4, 5), {},
    ),
    "extremes of what counts": (
        """
        input  x[N, T, D], lengths: index[N], w[N, T]
        let    high = max(x over T where position(T) < lengths)
        output x - high + min(x over T, D weight w) * mean(x over T weight w) + min(high over D)
        """,
        {}, (3, 4, 5), {"lengths": torch.tensor([4, 0, 3]), "w": torch.eye(3, 4).double()},
    ),
    "rows after their graphs": (
        """
        input  x[V, C], batch: index[V]
        let    g = x - mean(x over V: batch)
        output g / (1 + l2(g over C))
        """,
        {}, (6, 3), {"batch": BATCH},
    ),
    "rows beside their graphs": (
        """
        input  x[V, T, C], batch: index[V]
        output x - mean(x over V: batch, T) * mean(x over C) - var(x over T)
        """,
        {}, (6, 2, 3), {"batch": BATCH},
    ),
    "statistics of rows in graphs": (
        """
        input  x[V, C], batch: index[V]
        let    r = mean(x over C)
        let    m = mean(r over V: batch)
        output (x - m) / (1 + var(r over V: batch) + (r - m)^2) + max(r over V: batch)
        """,
        {}, (6, 3), {"batch": BATCH},
    ),
    "rows of tables, pooled again": (
        """
        input  x[V, C = num_c], batch: index[V] of K = num_k
        param  gamma[K, C] = 1
        let    g = gamma[batch]
        output x * (g / (1 + mean(g^2 over V))) - max(g over V, C)
        """,
        {"num_c": 3, "num_k": 7}, (6, 3), {"batch": BATCH},
    ),
    "rows of tables beside rows": (
        """
        input  x[V, C, *S], batch: index[V] of K = num_k
        param  gamma[K] = 1
        let    r = mean(x^2 over C, *S)
        output x * (r * gamma[batch] / (1 + r)) + gamma[batch]
        """,
        {"num_k": 7}, (6, 3, 2), {"batch": BATCH},
    ),
    "extremes of graphs": (
        "input x[V, C], batch: index[V] output x - max(x over V: batch) * min(x over V: batch, C)",
        {}, (6, 3), {"batch": BATCH},
    ),
    "values that are rounded on the way": (  # not to bfloat16, to which the interpreter truncates
        """
        input  x[N, C], h[C], z[N, C]
        let    near = mean(cast(x / 3 as float32) over C)
        output cast(x * h like z) + x * near + cast(z / 7 as float16), r = cast(h / 5 as float16)
        """,
        {}, (3, 5),
        {"h": torch.linspace(-3, 7, 5).double(), "z": torch.linspace(1, 2, 15).view(3, 5).half()},
    ),
    "neighbours, of which some nodes have none and one has two edges from the same": (
        """
        input  x[V, C], e: edges[V]
        let    m = moments(x over V: e, C)
        let    high = max(x over V: e with self, C)
        output (x - m.mean) / sqrt(m.var + 1) + high * count(over V: e)
        """,
        {}, (6, 3), {"e": EDGES},
    ),
    "neighbours that weigh": (
        """
        input  x[V, T, C], e: edges[V], trust[V] = 1
        output x - mean(x over V: e, T, C weight 1 + trust^2) * std(x over V: e with self, T, C)
        """,
        {}, (6, 2, 3), {"e": EDGES, "trust": torch.linspace(-1, 2, 6).double()},
    ),
    "more neighbours than a tile has": (
        """
        input  x[V, C], e: edges[V]
        reduce V: e, C
        """,
        {}, (40, 2), {"e": torch.cartesian_prod(torch.arange(40), torch.arange(0, 40, 3)).T},
    ),
    "sparse weights of lines": (
        """
        input  x[N, C = num_c, *S]
        param  table[C, K = 4] = normal(0, 1)
        let    share = sparsestmax(mean(x over *S) over C, radius = 0.4)
        let    part = sparsestmax(table over K, radius = 0.3)
        output x * share + sum(part * tanh(table) over K), part = max(part over C)
        """,
        {"num_c": 5}, (4, 5, 3), {},
    ),
    "values that an element has several of": (
        """
        input  x[V, C = num_c, T]
        param  lin[G = 3, C] = normal(0, 1)
        let    share = softmax(sum(lin * x over C, T) over G)
        let    part = share * x
        let    m = moments(part over V, T)
        let    ranked = mean(share * tanh(x) over G)
        output sum((part - m.mean) / sqrt(m.var + 1e-5) over G) + ranked * mean(x over V),
               level = mean(lin * x over C, G)
        """,
        {"num_c": 5}, (4, 5, 3), {},
    ),
    "lengths that positions are compared with": (
        """
        input  x[N, T, D], lengths: index[N]
        reduce T where position(T) < lengths
        """,
        {}, (3, 4, 5), {"lengths": torch.tensor([4, 1, 3])},
    ),
}  # fmt: skip


def triton_module(text: str) -> Any:
    """The module of a spec, with its kernels in Triton."""
    specs = load([STDIN], stdin=text.encode())
    result = compile_specs(specs.sources, specs.roots, Options(target="triton"))
    assert result.ok, result.diagnostics
    return module_from_files(result.files, module_name(specs.roots[0]))


def module_of_norm(body: str, hypers: Mapping[str, int], **lengths: int) -> Any:
    """A module of a norm, with the kernels of all schedules."""
    declared = ", ".join(f"{name}: int" for name in hypers)
    text = f"norm Own{f'({declared})' if declared else ''} {{ {body} }}"
    return triton_module(text).Own(**hypers, **lengths).double()


@pytest.mark.parametrize("schedule", ["islands", "sweeps"])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm(name: str, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forced(islands: DataPass | None, _: object) -> str:
        return schedule if islands is not None else "sweeps"

    monkeypatch.setattr(tiles, "choose_schedule", forced)
    body, hypers, shape, others = NORMS[name]
    module, x = module_of_norm(body, hypers), torch.randn(shape, dtype=torch.float64) + 1
    expected = everything("torch", module, x, others, weighted)
    agree(everything("triton", module, x, others, weighted), expected)


@pytest.mark.parametrize("result", ["m", "cells(m)"])
def test_results_for_groups_of_rows(result: str) -> None:
    """Each row has the result of its group, or each group has a row."""
    body = f"let m = mean(x over V: batch, C) output x - m, m = {result}"
    module = module_of_norm(f"input x[V, C], batch: index[V] {body}", {})
    x = torch.randn(6, 3, dtype=torch.float64)
    expected = everything("torch", module, x, {"batch": BATCH}, weighted)
    agree(everything("triton", module, x, {"batch": BATCH}, weighted), expected)


def test_neighbours_are_those_of_an_adjacency_matrix() -> None:
    """Moments and largest values of the sources of edges, and their gradients, beside a matrix."""
    body = """
        input  x[V, C], e: edges[V]
        let    m = moments(x over V: e with self, C)
        let    high = max(x over V: e, C)
        output (x - m.mean) / sqrt(m.var + 1) + high
    """
    module = module_of_norm(body, {})
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    links = torch.zeros(6, 6, dtype=torch.float64)
    for source, target in EDGES.T.tolist():
        links[target, source] += 1
    looped = links + torch.eye(6, dtype=torch.float64)
    count = looped.sum(1, keepdim=True) * 3
    mean = (looped @ x).sum(1, keepdim=True) / count
    gaps = (x[None] - mean[:, None]) ** 2
    var = (looped[..., None] * gaps).sum((1, 2))[:, None] / count
    highest = x.amax(1).expand(6, 6).masked_fill(links == 0, -torch.inf).amax(1)
    high = torch.where(links.sum(1) > 0, highest, 0)[:, None]  # zero where no edge ends
    wanted = (x - mean) / (var + 1).sqrt() + high
    with use("triton"):
        ours = module(x, EDGES)
        seed = torch.randn_like(ours)
        (gradient,) = torch.autograd.grad(ours, x, seed)
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        gradient, *torch.autograd.grad(wanted, x, seed), rtol=1e-8, atol=1e-8
    )


def test_a_few_wide_rows() -> None:
    """The gradients of their parameters are no few numbers beside the data."""
    module = module_of_norm("input x[B, D] reduce D affine D", {}, d=16500)
    x = torch.randn(2, 16500, dtype=torch.float64)
    expected = everything("torch", module, x, {}, weighted)
    agree(everything("triton", module, x, {}, weighted), expected)
