"""Small networks, their training, and scikit-learn's data; what all effects share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional

import metanorm

SPECS = Path(__file__).parents[3] / "specs"
Norm = Callable[[int], nn.Module]  # a norm for so many channels


@cache
def library(file: str) -> ModuleType:
    """The norms of a file of the library."""
    return metanorm.load(SPECS / f"{file}.norm")


@cache
def digits() -> tuple[Tensor, Tensor]:
    """1,797 scans of 8 x 8 pixels between 0 and 1, as N, 1, 8, 8; and their classes."""
    scans = datasets.load_digits()
    return torch.from_numpy(scans.images).float()[:, None] / 16, torch.from_numpy(scans.target)


def split(count: int, seed: int, held_out: float = 0.3) -> tuple[Tensor, Tensor]:
    """Positions to train on, and positions held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    cut = int(count * held_out)
    return order[cut:], order[:cut]


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled positions in batches; what is left over is left out."""
    order = torch.randperm(count, generator=generator)
    return iter(order[: count // size * size].split(size))


class SmallCNN(nn.Sequential):
    """Three convolutions, each with its norm, then the mean over the image."""

    def __init__(self, norm: Norm, width: int = 16, classes: int = 10) -> None:
        super().__init__(
            *self.block(norm, 1, width),
            *self.block(norm, width, width),
            nn.MaxPool2d(2),
            *self.block(norm, width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )

    @staticmethod
    def block(norm: Norm, inside: int, outside: int) -> list[nn.Module]:
        """A convolution, a norm, a nonlinearity; the norm has the bias."""
        return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), norm(outside), nn.ReLU()]


def fit(
    network: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    seed: int,
    steps: int,
    batch: int,
    rate: float,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    decays: bool = False,
    after_step: Callable[[int], None] = lambda step: None,
) -> list[float]:
    """Train for a number of steps, with a rate that stays or decays to zero; the loss of each."""
    generator = torch.Generator().manual_seed(seed)
    steps_taken, losses = 0, []
    chosen = optimizer(network.parameters(), lr=rate)  # type: ignore[call-arg]
    schedule = torch.optim.lr_scheduler.LinearLR(chosen, 1.0, 0.0 if decays else 1.0, steps)
    network.train()
    while steps_taken < steps:
        for positions in batches(len(x), batch, generator):
            loss = functional.cross_entropy(network(x[positions]), target[positions])
            chosen.zero_grad()
            loss.backward()
            chosen.step()
            schedule.step()
            losses.append(loss.item())
            after_step(steps_taken)
            steps_taken += 1
            if steps_taken == steps:
                break
    return losses


@torch.no_grad()
def wrong(network: nn.Module, x: Tensor, target: Tensor) -> float:
    """The share of wrong answers in evaluation, in percent."""
    network.eval()
    return 100 * (network(x).argmax(1) != target).double().mean().item()


@torch.no_grad()
def log_loss(network: nn.Module, x: Tensor, target: Tensor) -> float:
    """The cross entropy in evaluation."""
    network.eval()
    return functional.cross_entropy(network(x), target).item()
