"""Norms of weights make the weights that they normalize grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from measured.effect import Effect, Finding, Measurement, Series, difference
from measured.training import SmallCNN, digits, fit, library, split
from metanorm import runtime

STEPS, EVERY = 400, 40


def norms() -> Mapping[str, Callable[[], nn.Module] | None]:
    """The norms that are compared; `None` is the weight as it is."""
    return {
        "no norm": None,
        "WeightNorm": library("weight_norm").WeightNorm,
        "WeightStandardization": library("weight_standardization").WeightStandardization,
    }


def learned_weights(network: nn.Module) -> list[torch.Tensor]:
    """The tensors that are learned, before any norm."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return [
        layer.parametrizations.weight.original
        if hasattr(layer, "parametrizations")
        else layer.weight
        for layer in convolutions
    ]


def size(network: nn.Module) -> float:
    """The mean length of the rows of all convolutions."""
    rows = [w.detach().flatten(1).norm(dim=1) for w in learned_weights(network)]
    return torch.cat(rows).mean().item()


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """How long the rows of weights are on the way, beside how long they were at first."""
    images, target = digits()
    steps = 80 if quick else STEPS
    x = list(range(0, steps + 1, EVERY))
    grown = {name: [[1.0] * len(seeds) for _ in x] for name in norms()}
    shrunk = {name: [0] * len(seeds) for name in norms()}
    for number, seed in enumerate(seeds):
        train, _ = split(len(images), seed)
        for name, norm in norms().items():
            torch.manual_seed(seed)
            network = SmallCNN(lambda width: nn.GroupNorm(4, width))
            if norm is not None:
                runtime.on_weights(network, norm, (nn.Conv2d,))
            start = before = size(network)

            def look(step: int, network: nn.Module = network, name: str = name,
                     number: int = number, start: float = start) -> None:  # fmt: skip
                nonlocal before
                now = size(network)
                shrunk[name][number] += now < before * (1 - 1e-7)
                before = now
                if step + 1 in x:
                    grown[name][x.index(step + 1)][number] = now / start

            fit(network, images[train], target[train], seed=seed, steps=steps, batch=32, rate=0.2,
                optimizer=torch.optim.SGD, after_step=look)  # fmt: skip
    series = [Series(name, values) for name, values in grown.items()]
    ones = [1.0] * len(seeds)
    findings = [
        difference(f"rows under {name} are longer at the end", grown[name][-1], ones, " of 1")
        for name in ("WeightNorm", "WeightStandardization")
    ]
    total = sum(shrunk["WeightNorm"])
    numbers = f"{total} of {steps * len(seeds)} steps"
    findings.append(
        Finding("no step of SGD makes rows under WeightNorm shorter", not total, numbers)
    )
    return Measurement("step of SGD", x, "length of rows, of that at first", series, findings)


EFFECT = Effect(
    source="Salimans & Kingma, 2016, arXiv 1602.07868, section 2.1",
    data="scikit-learn's digits, a small CNN with group norms, under which plain weights grow too; "
    "SGD without momentum",
    measure=measure,
)
