"""One training loop for both experiments, and what is kept of a run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Batch:
    """What a network takes, and the classes it should answer with."""

    inputs: Any
    target: torch.Tensor


@dataclass(frozen=True)
class Variant:
    """One row of the table: a network with a norm in it."""

    name: str
    network: Callable[[], nn.Module]


@dataclass(frozen=True)
class Experiment:
    """A task, the networks that are trained on it, and how."""

    title: str
    variants: list[Variant]
    training: Callable[[torch.Generator], Iterator[Batch]]  # one epoch, shuffled
    held_out: Batch
    epochs: int
    steps: int  # in an epoch
    learning_rate: float
    same: tuple[str, str]  # a generated norm and torch's own: variants that must agree
    changed: dict[str, Batch] = field(default_factory=dict)  # held-out data, altered


@dataclass
class Run:
    """One training: the network, and its curves."""

    network: nn.Module
    losses: list[float] = field(default_factory=list)  # training, mean of each epoch
    accuracies: list[float] = field(default_factory=list)  # held out, after each epoch
    changed: dict[str, float] = field(default_factory=dict)  # at the end

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        return sum(parameter.numel() for parameter in self.network.parameters())


@dataclass(frozen=True)
class Result:
    """A variant and its runs, one for each seed."""

    name: str
    runs: list[Run]

    def mean(self, of: Callable[[Run], float]) -> float:
        """The mean over the seeds."""
        return statistics.fmean(of(run) for run in self.runs)

    def spread(self, of: Callable[[Run], float]) -> float:
        """The standard deviation over the seeds, of which there must be two or more."""
        return statistics.stdev(map(of, self.runs))


def train(
    experiment: Experiment, variant: Variant, seed: int, after_epoch: Callable[[Run], None]
) -> Run:
    """Train one network.

    The seed decides the initial weights and the order of the batches, whatever the norm is:
    norms start from ones and zeros, so they draw no random numbers.

    Everything is in float64. In float32 the rounding of the first steps grows until two runs of
    the same function differ visibly; here what differs is the norm.
    """
    torch.manual_seed(seed)
    shuffling = torch.Generator().manual_seed(seed)
    network = variant.network().double()
    optimizer = torch.optim.Adam(network.parameters(), experiment.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, experiment.learning_rate, total_steps=experiment.epochs * experiment.steps
    )
    run = Run(network)
    for _ in range(experiment.epochs):
        total, count = 0.0, 0
        network.train()
        for batch in experiment.training(shuffling):
            loss = functional.cross_entropy(network(batch.inputs), batch.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total, count = total + loss.item() * len(batch.target), count + len(batch.target)
        run.losses.append(total / count)
        run.accuracies.append(accuracy(network, experiment.held_out))
        after_epoch(run)
    run.changed = {name: accuracy(network, batch) for name, batch in experiment.changed.items()}
    return run


@torch.no_grad()
def accuracy(network: nn.Module, batch: Batch) -> float:
    """The share of right answers, in evaluation mode."""
    network.eval()
    right: torch.Tensor = network(batch.inputs).argmax(dim=1) == batch.target
    return right.double().mean().item()
