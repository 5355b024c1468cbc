"""Centred weights and centred gradients: do they train better?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from measured.effect import Effect, Measurement, Series, difference
from measured.training import SmallCNN, batches, digits, library, split, wrong
from metanorm import runtime

STEPS, CHECKED, BATCH = 300, (50, 100, 200, 300), 32
Prepare = Callable[[nn.Module, torch.optim.Optimizer], object]


def put_on_weights(network: nn.Module) -> None:
    """Weight centralization on all convolutions and linear layers."""
    runtime.on_weights(network, library("centralization").WeightCentralization)


def methods() -> Mapping[str, tuple[bool, bool]]:
    """Whether weights are centred, and whether gradients are."""
    return {
        "neither": (False, False),
        "WeightCentralization": (True, False),
        "GradientCentralization": (False, True),
        "both": (True, True),
    }


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Held-out errors on the way, by SGD with momentum."""
    images, target = digits()
    checked = (5, 10) if quick else CHECKED
    errors = {name: [[0.0] * len(seeds) for _ in checked] for name in methods()}
    for number, seed in enumerate(seeds):
        train, held_out = split(len(images), seed)
        for name, (weights, gradients) in methods().items():
            torch.manual_seed(seed)
            network = SmallCNN(library("batch_norm").BatchNorm)
            if weights:
                put_on_weights(network)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
            if gradients:
                library("centralization").GradientCentralization().attach(optimizer)
            generator, step = torch.Generator().manual_seed(seed), 0
            while step < checked[-1]:
                for positions in batches(len(train), BATCH, generator):
                    network.train()
                    chosen = train[positions]
                    loss = functional.cross_entropy(network(images[chosen]), target[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    step += 1
                    if step in checked:
                        share = wrong(network, images[held_out], target[held_out])
                        errors[name][checked.index(step)][number] = share
                    if step == checked[-1]:
                        break
    series = [Series(name, values) for name, values in errors.items()]
    findings = [
        difference(
            f"{name}: fewer errors at the end than without", errors["neither"][-1],
            errors[name][-1], " points",
        )
        for name in ("WeightCentralization", "GradientCentralization")
    ]  # fmt: skip
    return Measurement("step", checked, "wrong, held out, %", series, findings, log_y=True)


EFFECT = Effect(
    source="Fuhl & Kasneci, 2020, arXiv 2010.00866; Yong et al., 2020, arXiv 2004.01461",
    data="scikit-learn's digits, a small CNN with batch norms, SGD with momentum",
    measure=measure,
    seeds=8,
)
