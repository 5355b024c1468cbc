"""LayerNorm without weight and bias: do the learned ones help?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from measured.effect import Effect, Finding, Measurement, Series, difference, parity
from measured.training import Norm, digits, fit, library, log_loss, split, wrong

STEPS, BATCH, RATE = 400, 64, 3e-3
WIDTH, HEADS, BLOCKS = 32, 4, 2
MARGIN = 0.5  # points of errors, within which two norms are alike


class Block(nn.Module):
    """Attention and two linear layers, each behind its norm, with residual connections."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.before_attention, self.before_linear = norm(WIDTH), norm(WIDTH)
        self.to_heads = nn.Linear(WIDTH, 3 * WIDTH)
        self.from_heads = nn.Linear(WIDTH, WIDTH)
        self.linear = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """From N, L, D to the same."""
        heads = self.to_heads(self.before_attention(x)).unflatten(-1, (3, HEADS, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        attended = scores.softmax(-1) @ value
        x = x + self.from_heads(attended.transpose(1, 2).flatten(-2))
        return x + self.linear(self.before_linear(x))


class Transformer(nn.Module):
    """Reads each scan as sixteen patches of 2 x 2 pixels; the class is read from their mean."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.positions = nn.Parameter(0.1 * torch.randn(16, WIDTH))
        self.blocks = nn.Sequential(*(Block(norm) for _ in range(BLOCKS)))
        self.norm, self.classes = norm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """From N, 1, 8, 8 to N, classes."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.classes(self.norm(self.blocks(x)).mean(1))


def mlp(norm: Norm) -> nn.Module:
    """Three hidden layers on the pixels, each with its norm."""
    layers: list[nn.Module] = [nn.Flatten()]
    inside = 64
    for _ in range(3):
        layers += [nn.Linear(inside, 2 * WIDTH), norm(2 * WIDTH), nn.ReLU()]
        inside = 2 * WIDTH
    return nn.Sequential(*layers, nn.Linear(inside, 10))


NETWORKS: Mapping[str, Callable[[Norm], nn.Module]] = {"transformer": Transformer, "MLP": mlp}


LEARNED, PLAIN, NO_NORM = "LayerNorm", "neither weight nor bias", "no norm"


def norms() -> Mapping[str, Norm]:
    """The norms that are compared."""
    layer_norm = library("layer_norm").LayerNorm
    return {
        LEARNED: layer_norm,
        PLAIN: partial(layer_norm, elementwise_affine=False),
        NO_NORM: lambda width: nn.Identity(),
    }


@dataclass
class Trained:
    """What networks with one norm come to, a number for each seed."""

    errors: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    training_loss: list[float] = field(default_factory=list)


def trained(
    make: Callable[[Norm], nn.Module], norm: Norm, seeds: Sequence[int], steps: int
) -> Trained:
    """Train a network for each seed."""
    images, target = digits()
    runs = Trained()
    for seed in seeds:
        train, held_out = split(len(images), seed)
        torch.manual_seed(seed)
        network = make(norm)
        fit(network, images[train], target[train], seed=seed, steps=steps, batch=BATCH, rate=RATE,
            decays=True)  # fmt: skip
        runs.errors.append(wrong(network, images[held_out], target[held_out]))
        runs.held_out_loss.append(log_loss(network, images[held_out], target[held_out]))
        runs.training_loss.append(log_loss(network, images[train], target[train]))
    return runs


def findings(network: str, runs_by_norm: Mapping[str, Trained]) -> list[Finding]:
    """What the paper claims, and whether the norm matters at all."""
    learned, plain, without = runs_by_norm[LEARNED], runs_by_norm[PLAIN], runs_by_norm[NO_NORM]
    return [
        parity(
            f"{network}: without weight and bias, as many errors as with them",
            plain.errors, learned.errors, MARGIN, " points",
        ),
        difference(
            f"{network}: with weight and bias, the training loss is smaller",
            plain.training_loss, learned.training_loss,
        ),
        difference(
            f"{network}: with weight and bias, the held-out loss is larger",
            learned.held_out_loss, plain.held_out_loss,
        ),
        difference(
            f"{network}: without any norm, more errors", without.errors, plain.errors, " points"
        ),
    ]  # fmt: skip


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Held-out errors of each network with each norm."""
    steps = 10 if quick else STEPS
    runs = {
        network: {name: trained(make, norm, seeds, steps) for name, norm in norms().items()}
        for network, make in NETWORKS.items()
    }
    series = [
        Series(name, [runs[network][name].errors for network in NETWORKS]) for name in norms()
    ]
    claims = [finding for network in NETWORKS for finding in findings(network, runs[network])]
    return Measurement("network", list(NETWORKS), "wrong, held out, %", series, claims)


EFFECT = Effect(
    source="Xu, Sun, Zhang, Zhao & Lin, 2019, arXiv 1911.07013",
    data="scikit-learn's digits, a transformer of two blocks and an MLP of three hidden layers",
    measure=measure,
    seeds=8,
)
