"""TaskNorm in few-shot episodes: statistics of the context, mixed with those of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from measured.effect import Effect, Measurement, Series, difference
from measured.training import digits, library

SEEN, NEW = range(6), range(6, 10)  # digits to train with, and others to tell apart
WAYS, TARGETS = 4, 8
SHOTS = (1, 2, 5)
EPISODES, TRIALS = 200, 100
WIDTH = 16


class OwnStatistics(nn.Module):
    """Batch norm: a batch in training, running statistics in evaluation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = library("batch_norm").BatchNorm(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Take the arguments that TaskNorm takes."""
        y: Tensor = self.norm(x)
        return y


def norms() -> Mapping[str, Callable[[int], nn.Module]]:
    """The norms that are compared."""
    return {
        "TaskNorm": library("task_norm").TaskNorm,
        "MetaBatchNorm": library("task_norm").MetaBatchNorm,
        "BatchNorm": OwnStatistics,
    }


class Embedding(nn.Module):
    """Two convolutions; their norms see the context, too."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(WIDTH if i else 1, WIDTH, 3, padding=1, bias=False) for i in range(2)
        )
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(2))

    def forward(self, context: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors for the context and for what is to be told apart."""
        for layer, norm in zip(self.layers, self.norms):
            context, x = layer(context), layer(x)
            context, x = norm(context, context), norm(x, context)
            context, x = (functional.max_pool2d(part.relu(), 2) for part in (context, x))
        return context.flatten(1), x.flatten(1)


def episode(
    by_class: Sequence[Tensor], classes: Sequence[int], shots: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of a context of `shots` scans for each of four digits, of targets, and answers."""
    chosen = torch.randperm(len(classes), generator=generator)[:WAYS]
    context, targets = [], []
    for way in chosen.tolist():
        scans = by_class[classes[way]]
        drawn = scans[torch.randperm(len(scans), generator=generator)[: shots + TARGETS]]
        context.append(drawn[:shots])
        targets.append(drawn[shots:])
    answers = torch.arange(WAYS).repeat_interleave(TARGETS)
    return torch.cat(context), torch.cat(targets), answers


def answers_of(network: Embedding, context: Tensor, x: Tensor, shots: int) -> Tensor:
    """How near each target is to the mean of each class (Snell et al., 2017)."""
    around, vectors = network(context, x)
    centres = around.view(WAYS, shots, -1).mean(1)
    return -torch.cdist(vectors, centres).square() / WIDTH


def measure(seeds: Sequence[int], quick: bool) -> Measurement:
    """Wrong answers in episodes of digits that training did not have."""
    images, target = digits()
    by_class = [torch.nonzero(target == digit)[:, 0] for digit in range(10)]
    episodes, trials = (10, 5) if quick else (EPISODES, TRIALS)
    errors = {name: [[0.0] * len(seeds) for _ in SHOTS] for name in norms()}
    for place, shots in enumerate(SHOTS):
        for number, seed in enumerate(seeds):
            for name, norm in norms().items():
                torch.manual_seed(seed)
                generator = torch.Generator().manual_seed(seed)
                network = Embedding(norm)
                optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
                for _ in range(episodes):
                    context, asked, answers = episode(by_class, SEEN, shots, generator)
                    scores = answers_of(network, images[context], images[asked], shots)
                    loss = functional.cross_entropy(scores, answers)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                network.eval()
                wrong = 0.0
                with torch.no_grad():
                    for _ in range(trials):
                        context, asked, answers = episode(by_class, NEW, shots, generator)
                        scores = answers_of(network, images[context], images[asked], shots)
                        wrong += (scores.argmax(1) != answers).double().mean().item()
                errors[name][place][number] = 100 * wrong / trials
    series = [Series(name, values) for name, values in errors.items()]
    points = " points"
    findings = [
        difference(
            f"with {shots} scan{'s' if shots > 1 else ''} of each digit, {other} makes more errors "
            "than TaskNorm",
            errors[other][place], errors["TaskNorm"][place], points,
        )
        for place, shots in ((0, SHOTS[0]), (len(SHOTS) - 1, SHOTS[-1]))
        for other in ("MetaBatchNorm", "BatchNorm")
    ]  # fmt: skip
    return Measurement("scans of each digit", SHOTS, "wrong, new digits, %", series, findings)


EFFECT = Effect(
    source="Bronskill, Gordon, Requeima, Nowozin & Turner, 2020, arXiv 2003.03284",
    data="scikit-learn's digits: prototypes from a few scans of four digits that training lacked",
    measure=measure,
)
