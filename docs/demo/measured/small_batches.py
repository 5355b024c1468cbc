"""BatchNorm degrades as batches shrink, where GroupNorm and SwitchNorm hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from measured.effect import Effect, Measurement, Series, difference
from measured.training import Norm, SmallCNN, digits, fit, library, split, wrong

SIZES = (2, 4, 8, 32)
EPOCHS = 3
RATE_OF_ONE = 3e-4  # the learning rate grows with the root of the batch


def norms() -> Mapping[str, Norm]:
    """The norms that are compared."""
    return {
        "BatchNorm": library("batch_norm").BatchNorm,
        "GroupNorm": partial(library("group_norm").GroupNorm, 4),
        "SwitchNorm": library("switch_norm").SwitchNorm,
    }


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Held-out errors by the size of the batch, after as many samples for each."""
    images, target = digits()
    errors = {name: [[0.0] * len(seeds) for _ in SIZES] for name in norms()}
    for place, size in enumerate(SIZES):
        for number, seed in enumerate(seeds):
            train, held_out = split(len(images), seed)
            train = train[:128] if quick else train
            for name, norm in norms().items():
                torch.manual_seed(seed)
                network = SmallCNN(norm)
                steps = (1 if quick else EPOCHS) * (len(train) // size)
                rate = RATE_OF_ONE * size**0.5
                fit(network, images[train], target[train], seed=seed, steps=steps, batch=size,
                    rate=rate)  # fmt: skip
                errors[name][place][number] = wrong(network, images[held_out], target[held_out])
    series = [Series(name, values) for name, values in errors.items()]
    points = " points of held-out errors"
    findings = [
        difference(
            "BatchNorm makes more errors with batches of 2 than of 32",
            errors["BatchNorm"][0], errors["BatchNorm"][-1], points,
        ),
        difference(
            "with batches of 2, BatchNorm makes more errors than GroupNorm",
            errors["BatchNorm"][0], errors["GroupNorm"][0], points,
        ),
        difference(
            "with batches of 2, BatchNorm makes more errors than SwitchNorm",
            errors["BatchNorm"][0], errors["SwitchNorm"][0], points,
        ),
    ]  # fmt: skip
    return Measurement("batch", SIZES, "wrong, held out, %", series, findings, log_y=True)


EFFECT = Effect(
    source="Wu & He, 2018, arXiv 1803.08494; Luo et al., 2018, arXiv 1806.10779",
    data="scikit-learn's digits, a small CNN, three epochs for every size of the batch",
    measure=measure,
    seeds=3,
)
