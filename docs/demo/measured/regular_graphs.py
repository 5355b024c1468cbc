"""The learned shift of GraphNorm matters on regular graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import networkx
import torch
from torch import Tensor, nn
from torch.nn import functional

from measured.effect import Effect, Measurement, Series, difference, parity
from measured.graph_speed import GIN, OverNodes, disjoint_union
from measured.training import batches, library

DEGREES = (2, 3, 4, 5, 6)
TRAIN, HELD_OUT, BATCH, NODES = 300, 200, 25, 12
STEPS = 240
NOISE = (0.0, 0.1, 0.3)


def norms() -> Mapping[str, Callable[[int], nn.Module]]:
    """The norms that are compared. GraphInstanceNorm subtracts the whole mean of a graph."""
    return {
        "GraphNorm": library("graph_norm").GraphNorm,
        "GraphInstanceNorm": lambda width: library("graph_instance_norm").GraphInstanceNorm(
            width, affine=True
        ),
        "BatchNorm": lambda width: OverNodes(library("batch_norm").BatchNorm(width)),
        "no norm": lambda width: OverNodes(nn.Identity()),
    }


def random_graphs(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """The edges, in both directions, of random regular graphs of 12 nodes, and their degrees."""
    edges, target = [], torch.arange(count) % len(DEGREES)
    for number, kind in enumerate(target.tolist()):
        graph = networkx.random_regular_graph(DEGREES[kind], NODES, seed=seed * 10_000 + number)
        one_way = torch.tensor(list(graph.edges)).T
        edges.append(torch.cat((one_way, one_way.flip(0)), 1))
    return edges, target


def errors_of(norm: Callable[[int], nn.Module], noise: float, seed: int, steps: int) -> float:
    """The share of held-out graphs, in %, that a trained network takes for another degree."""
    edges, target = random_graphs(TRAIN, 2 * seed)
    held_out, expected = random_graphs(HELD_OUT, 2 * seed + 1)
    torch.manual_seed(seed)
    nodes = 1 + noise * torch.randn(TRAIN + HELD_OUT, NODES, 1)
    network = GIN(norm)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if step % (TRAIN // BATCH) == 0:
            epoch = batches(TRAIN, BATCH, generator)
        chosen = next(epoch)
        answer = network(*disjoint_union([(nodes[i], edges[i]) for i in chosen.tolist()]))
        loss = functional.cross_entropy(answer, target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        guess = network(*disjoint_union(list(zip(nodes[TRAIN:], held_out)))).argmax(1)
    return 100 * (guess != expected).float().mean().item()


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Held-out errors after training, where nodes are alike and where they differ a little."""
    steps = 20 if quick else STEPS
    errors = {
        name: [[errors_of(norm, noise, seed, steps) for seed in seeds] for noise in NOISE]
        for name, norm in norms().items()
    }
    series = [Series(name, values) for name, values in errors.items()]
    ours, theirs = errors["GraphNorm"], errors["GraphInstanceNorm"]
    alike = "where nodes are alike, GraphNorm errs as often: relu passes no gradient to its shift"
    findings = [parity(alike, ours[0], theirs[0], 1, " points")]
    findings += [
        difference(
            f"noise of {noise}: with the whole mean subtracted there are more errors",
            theirs[place], ours[place], " points",
        )
        for place, noise in enumerate(NOISE)
        if noise
    ]  # fmt: skip
    x_label = "deviation of what nodes begin with from 1"
    return Measurement(x_label, list(NOISE), "held-out errors, %", series, findings)


EFFECT = Effect(
    source="Cai, Luo, Xu, He, Liu & Wang, 2020, arXiv 2009.03294",
    data="networkx's random regular graphs of 12 nodes, classified by degree with a GIN",
    measure=measure,
)
