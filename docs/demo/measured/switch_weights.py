"""The weights that SwitchNorm learns move away from the batch as batches shrink."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from measured.effect import Effect, Measurement, Series, difference
from measured.training import SmallCNN, digits, fit, library, split

SIZES = (2, 4, 8, 32)
STEPS = 400
SHARES = ("instance", "layer", "batch")


def shares(network: nn.Module) -> list[float]:
    """The softmax of the weights of instance, layer and batch, mean of all layers and of means
    and variances."""
    switch_norm = library("switch_norm").SwitchNorm
    weights = [
        torch.softmax(parameter.detach(), 0)
        for module in network.modules()
        if isinstance(module, switch_norm)
        for name, parameter in module.named_parameters()
        if name not in ("weight", "bias")
    ]
    return torch.stack(weights).mean(0).tolist()


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """The learned shares by the size of the batch, after as many steps for each."""
    images, target = digits()
    learned_shares = {name: [[0.0] * len(seeds) for _ in SIZES] for name in SHARES}
    for place, size in enumerate(SIZES):
        for number, seed in enumerate(seeds):
            train, _ = split(len(images), seed)
            torch.manual_seed(seed)
            network = SmallCNN(library("switch_norm").SwitchNorm)
            fit(network, images[train], target[train], seed=seed, steps=20 if quick else STEPS,
                batch=size, rate=5e-3)  # fmt: skip
            for name, share in zip(SHARES, shares(network)):
                learned_shares[name][place][number] = share
    series = [Series(name, values) for name, values in learned_shares.items()]
    findings = [
        difference(
            "the share of the batch is larger with batches of 32 than with batches of 2",
            learned_shares["batch"][-1], learned_shares["batch"][0],
        ),
        difference(
            "the share of the instance is larger with batches of 2 than with batches of 32",
            learned_shares["instance"][0], learned_shares["instance"][-1],
        ),
    ]  # fmt: skip
    return Measurement("batch", SIZES, "learned share", series, findings)


EFFECT = Effect(
    source="Luo, Ren, Peng, Zhang & Li, 2018, arXiv 1806.10779",
    data="scikit-learn's digits, a small CNN, 400 steps for every size of the batch",
    measure=measure,
)
