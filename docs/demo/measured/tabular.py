"""Variance-only LayerNorm on tables: subtracting the mean is not what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from sklearn import datasets
from torch import nn

from measured.effect import Effect, Measurement, Series, difference, parity
from measured.training import Norm, fit, library, log_loss, split

TABLES = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
}
STEPS, WIDTH = 300, 64


def norms() -> Mapping[str, Norm]:
    """The norms that are compared."""
    return {
        "LayerNorm": library("layer_norm").LayerNorm,
        "VarianceOnlyLayerNorm": library("variance_only_layer_norm").VarianceOnlyLayerNorm,
        "no norm": lambda width: nn.Identity(),
    }


def network(norm: Norm, inside: int, classes: int) -> nn.Module:
    """Three hidden layers, each with its norm."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(inside, WIDTH), norm(WIDTH), nn.ReLU()]
        inside = WIDTH
    return nn.Sequential(*layers, nn.Linear(inside, classes))


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Held-out log loss on each table; columns are scaled to deviations of one beforehand."""
    losses = {name: [[0.0] * len(seeds) for _ in TABLES] for name in norms()}
    for place, load in enumerate(TABLES.values()):
        table = load()
        x, target = torch.from_numpy(table.data).float(), torch.from_numpy(table.target).long()
        for number, seed in enumerate(seeds):
            train, held_out = split(len(x), seed)
            centre, deviation = x[train].mean(0), x[train].std(0)
            scaled = (x - centre) / deviation
            for name, norm in norms().items():
                torch.manual_seed(seed)
                model = network(norm, x.shape[1], int(target.max()) + 1)
                fit(model, scaled[train], target[train], seed=seed, steps=10 if quick else STEPS,
                    batch=32, rate=1e-3)  # fmt: skip
                losses[name][place][number] = log_loss(model, scaled[held_out], target[held_out])
    series = [Series(name, values) for name, values in losses.items()]
    findings = []
    for place, table_name in enumerate(TABLES):
        ours = losses["VarianceOnlyLayerNorm"][place]
        findings += [
            parity(
                f"{table_name}: without the mean, the loss is that of LayerNorm",
                ours, losses["LayerNorm"][place], 0.02,
            ),
            difference(
                f"{table_name}: without any norm, the loss is larger",
                losses["no norm"][place], ours,
            ),
        ]  # fmt: skip
    return Measurement("table", list(TABLES), "log loss, held out", series, findings)


EFFECT = Effect(
    source="Wang, She, Zhang & Zhang, 2020, arXiv 2006.12753",
    data="scikit-learn's breast cancer, wine and iris, an MLP of three hidden layers",
    measure=measure,
    seeds=10,
)
