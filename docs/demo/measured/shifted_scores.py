"""Score normalization when the tests are other than what thresholds were chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from measured.effect import Effect, Measurement, Series, difference
from measured.training import digits, library, split

SHOTS = 3  # scans that a model is the mean of
MODELS, COHORT = 100, 200
# How the scans of models and of tests are made darker, each by a factor of its own.
SHIFTS: Mapping[str, tuple[float, float]] = {
    "as they are": (1.0, 1.0),
    "tests darker": (1.0, 0.4),
    "models darker": (0.4, 1.0),
    "both darker": (0.4, 0.4),
}
SCORES = ("as they are", "ZNorm", "TNorm", "SNorm", "ASNorm")


def darkened(images: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """Each image times a factor between `least` and one."""
    factors = least + (1 - least) * torch.rand(len(images), 1, generator=generator)
    return images * factors


def equal_error_rate(scores: Tensor, same: Tensor) -> float:
    """The share of errors, in percent, at the threshold where both kinds are equally frequent."""
    order = scores.flatten().argsort(descending=True)
    right = same.flatten()[order]
    missed = 1 - right.double().cumsum(0) / right.sum()
    accepted = (~right).double().cumsum(0) / (~right).sum()
    place = (missed - accepted).abs().argmin()
    return 50 * float(missed[place] + accepted[place])


def normalized(kind: str, scores: Tensor, z_cohort: Tensor, t_cohort: Tensor) -> Tensor:
    """Scores by one norm of the library."""
    module = library("score_norm")
    calls = {
        "as they are": lambda: scores,
        "ZNorm": lambda: module.ZNorm()(scores, z_cohort),
        "TNorm": lambda: module.TNorm()(scores, t_cohort),
        "SNorm": lambda: module.SNorm()(scores, z_cohort, t_cohort),
        "ASNorm": lambda: module.ASNorm(top=50)(scores, z_cohort, t_cohort),
    }
    result: Tensor = calls[kind]()
    return result


def models_of(
    images: Tensor, target: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Models, each the mean of a few scans of one digit, and their digits."""
    digit = torch.arange(count) % 10
    means = []
    for d in digit.tolist():
        scans = torch.nonzero(target == d)[:, 0]
        chosen = scans[torch.randperm(len(scans), generator=generator)[:SHOTS]]
        means.append(images[chosen].mean(0))
    return torch.stack(means), digit


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Equal error rates of `is this scan of the model's digit`, by scalar products of pixels."""
    images, target = digits()
    images = images.flatten(1)
    rates = {kind: [[0.0] * len(seeds) for _ in SHIFTS] for kind in SCORES}
    count, cohort = (20, 40) if quick else (MODELS, COHORT)
    for place, (model_least, test_least) in enumerate(SHIFTS.values()):
        for number, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            enrolled, tests = split(len(images), seed)
            models, digit = models_of(images[enrolled], target[enrolled], count, generator)
            models = darkened(models, model_least, generator)
            asked = darkened(images[tests], test_least, generator)
            others = enrolled[torch.randperm(len(enrolled), generator=generator)]
            z_scans = darkened(images[others[:cohort]], test_least, generator)
            t_models = darkened(images[others[cohort : 2 * cohort]], model_least, generator)
            scores = models @ asked.T
            same = digit[:, None] == target[tests]
            for kind in SCORES:
                normalized_scores = normalized(kind, scores, models @ z_scans.T, t_models @ asked.T)
                rates[kind][place][number] = equal_error_rate(normalized_scores, same)
    series = [Series(kind, values) for kind, values in rates.items()]
    names = list(SHIFTS)
    findings = [
        difference(
            f"{shift}: scores as they are err more often than those of {kind}",
            rates["as they are"][names.index(shift)], rates[kind][names.index(shift)], " points",
        )
        for shift, kind in (
            ("tests darker", "TNorm"), ("models darker", "ZNorm"), ("both darker", "SNorm"),
            ("both darker", "ASNorm"),
        )
    ]  # fmt: skip
    return Measurement("scans", names, "equal error rate, %", series, findings)


EFFECT = Effect(
    source="Swart & Brummer, 2017, arXiv 1709.09868",
    data="scikit-learn's digits as speakers: models of three scans, scalar products as scores, "
    "scans darkened by factors of their own",
    measure=measure,
    seeds=10,
)
