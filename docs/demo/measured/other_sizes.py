"""Local context norm on images of other sizes than those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from measured.effect import Effect, Measurement, Series, difference
from measured.training import Norm, digits, library, split

TRAINED = 3  # tiles along each side
SIDES = (1, 2, 3, 6, 10)
STEPS, BATCH, WIDTH, TESTS = 300, 8, 16, 40
WINDOW = 17  # pixels: two tiles


class Map(nn.Sequential):
    """Three convolutions with their norms; ten numbers for each tile of 8 x 8 pixels."""

    def __init__(self, norm: Norm) -> None:
        layers: list[nn.Module] = []
        for inside in (1, WIDTH, WIDTH):
            layers += [nn.Conv2d(inside, WIDTH, 3, padding=1, bias=False), norm(WIDTH), nn.ReLU()]
        super().__init__(*layers, nn.AvgPool2d(8), nn.Conv2d(WIDTH, 10, 1))


def norms() -> Mapping[str, Norm]:
    """The norms that are compared."""
    local = library("local_context_norm").LocalContextNorm
    return {
        "LocalContextNorm": partial(local, channels_per_group=4, width=WINDOW),
        "GroupNorm": partial(library("group_norm").GroupNorm, 4),
        "BatchNorm": library("batch_norm").BatchNorm,
    }


def mosaics(
    images: Tensor, target: Tensor, side: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images of side x side digits on dark ground, lit from a corner; and the digit of each tile.

    The light falls off with the distance in tiles, so that large images have darker parts.
    """
    chosen = torch.randint(len(images), (count, side, side), generator=generator)
    tiles = images[chosen][:, :, :, 0]  # count, side, side, 8, 8
    picture = tiles.permute(0, 1, 3, 2, 4).reshape(count, 1, 8 * side, 8 * side)
    place = torch.arange(8 * side) / 8
    light = 1 / (1 + 0.5 * (place[:, None] + place))
    return picture * light, target[chosen]


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Wrong tiles, after training on images of three by three digits."""
    images, target = digits()
    wrong = {name: [[0.0] * len(seeds) for _ in SIDES] for name in norms()}
    for number, seed in enumerate(seeds):
        train, held_out = split(len(images), seed)
        for name, norm in norms().items():
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            network = Map(norm)
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
            for _ in range(10 if quick else STEPS):
                x, answer = mosaics(images[train], target[train], TRAINED, BATCH, generator)
                loss = functional.cross_entropy(network(x), answer)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            for place, side in enumerate(SIDES):
                count = max(1, TESTS * 9 // side**2)
                x, answer = mosaics(images[held_out], target[held_out], side, count, generator)
                with torch.no_grad():
                    off = (network(x).argmax(1) != answer).double().mean().item()
                wrong[name][place][number] = 100 * off
    series = [Series(name, values) for name, values in wrong.items()]
    trained, largest = SIDES.index(TRAINED), len(SIDES) - 1

    def worse(name: str) -> list[float]:
        return [a - b for a, b in zip(wrong[name][largest], wrong[name][trained])]

    findings = [
        difference(
            f"on images of {SIDES[largest]} x {SIDES[largest]} digits, {name} loses more than "
            "LocalContextNorm", worse(name), worse("LocalContextNorm"), " points",
        )
        for name in ("GroupNorm", "BatchNorm")
    ]  # fmt: skip
    label = f"digits along each side (trained with {TRAINED})"
    return Measurement(label, SIDES, "wrong tiles, held out, %", series, findings)


EFFECT = Effect(
    source="Ortiz et al., 2020, arXiv 1912.05845",
    data="mosaics of scikit-learn's digits under a light that falls off, a network of convolutions",
    measure=measure,
)
