"""GraphNorm trains faster than BatchNorm."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from measured.effect import Effect, Measurement, Series, difference
from measured.training import batches, digits, library, split

WIDTH, LAYERS, BATCH = 32, 3, 32
STEPS, EVERY = 300, 30
BRIGHT = 0.25  # pixels that are nodes


@cache
def graphs() -> list[tuple[Tensor, Tensor]]:
    """Each digit as a graph: bright pixels, whose neighbours are those beside them.

    A node knows its brightness, and nothing of where it lies.
    """
    images, _ = digits()
    made = []
    for image in images[:, 0]:
        bright = image > BRIGHT
        number = torch.full((10, 10), -1)
        number[1:-1, 1:-1][bright] = torch.arange(int(bright.sum()))
        inner = number[1:-1, 1:-1]
        beside = (number[1:-1, 2:], number[2:, 1:-1], number[2:, 2:], number[2:, :-2])
        pairs = [torch.stack((inner, other)).flatten(1) for other in beside]
        edges = torch.cat([p[:, (p >= 0).all(0)] for p in pairs], 1)
        made.append((image[bright][:, None], torch.cat((edges, edges.flip(0)), 1)))
    return made


def disjoint_union(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Several graphs as one: values of nodes, edges, and the graph of each node.

    `parts` has the values of nodes [nodes, features] and the edges [2, edges] of each.
    """
    sizes = torch.tensor([len(x) for x, _ in parts])
    starts = sizes.cumsum(0) - sizes
    edges = torch.cat([e + start for (_, e), start in zip(parts, starts)], 1)
    return (
        torch.cat([x for x, _ in parts]),
        edges,
        torch.arange(len(parts)).repeat_interleave(sizes),
    )


class OverNodes(nn.Module):
    """A norm that does not look at graphs."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """Take the arguments that GraphNorm takes."""
        y: Tensor = self.norm(x)
        return y


class GIN(nn.Module):
    """Layers of a graph isomorphism network (Xu et al., 2019), each with a norm."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(WIDTH if i else 1, WIDTH) for i in range(LAYERS))
        self.second = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(LAYERS))
        self.classes = nn.Linear(LAYERS * WIDTH, 10)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        """Ten numbers for each graph."""
        count, sums = int(graph[-1]) + 1, []
        for first, second, norm in zip(self.first, self.second, self.norms):
            x = x.index_add(0, edges[1], x[edges[0]])
            x = norm(second(first(x).relu()), graph).relu()
            sums.append(x.new_zeros(count, WIDTH).index_add(0, graph, x))
        answer: Tensor = self.classes(torch.cat(sums, 1))
        return answer


def norms() -> Mapping[str, Callable[[int], nn.Module]]:
    """The norms that are compared."""
    return {
        "GraphNorm": library("graph_norm").GraphNorm,
        "BatchNorm": lambda width: OverNodes(library("batch_norm").BatchNorm(width)),
        "no norm": lambda width: OverNodes(nn.Identity()),
    }


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """The training loss on the way, means of 30 steps each."""
    _, target = digits()
    steps = 60 if quick else STEPS
    x = list(range(EVERY, steps + 1, EVERY))
    curves = {name: [[0.0] * len(seeds) for _ in x] for name in norms()}
    for number, seed in enumerate(seeds):
        train, _ = split(len(target), seed)
        for name, norm in norms().items():
            torch.manual_seed(seed)
            network = GIN(norm)
            optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
            generator = torch.Generator().manual_seed(seed)
            losses: list[float] = []
            while len(losses) < steps:
                for positions in batches(len(train), BATCH, generator):
                    chosen = train[positions]
                    answer = network(*disjoint_union([graphs()[i] for i in chosen.tolist()]))
                    loss = functional.cross_entropy(answer, target[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
            for place, step in enumerate(x):
                curves[name][place][number] = statistics.fmean(losses[step - EVERY : step])
    series = [Series(name, values) for name, values in curves.items()]
    findings = [
        difference(
            f"after {step} steps the loss with BatchNorm is larger than with GraphNorm",
            curves["BatchNorm"][place], curves["GraphNorm"][place],
        )
        for place, step in enumerate(x)
        if place in (len(x) // 2 - 1, len(x) - 1)
    ]  # fmt: skip
    return Measurement("step", x, "training loss", series, findings, log_y=True)


EFFECT = Effect(
    source="Cai, Luo, Xu, He, Liu & Wang, 2020, arXiv 2009.03294",
    data="scikit-learn's digits as graphs of their bright pixels, a GIN of three layers",
    measure=measure,
)
