"""Handwritten digits: a small convolutional network, with one norm or another in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from experiment import Batch, Experiment, Variant

# The package that `metanorm compile specs docs/demo/specs -o build/demo/norms` wrote.
from norms import BatchNorm, BlendNorm, GroupNorm, SwitchNorm
from sklearn.datasets import load_digits
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # a norm for so many channels

GROUPS = 4
BATCH = 32


class Network(nn.Sequential):
    """Four convolutions, each with its norm, then the mean over the image and a linear layer."""

    def __init__(self, norm: Norm, width: int = 16) -> None:
        super().__init__(
            *self.block(norm, 1, width),
            *self.block(norm, width, width),
            nn.MaxPool2d(2),
            *self.block(norm, width, 2 * width),
            *self.block(norm, 2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 10),
        )

    @staticmethod
    def block(norm: Norm, inside: int, outside: int) -> list[nn.Module]:
        """A convolution, a norm, a nonlinearity; the norm has the bias."""
        convolution = nn.Conv2d(inside, outside, kernel_size=3, padding=1, bias=False)
        return [convolution, norm(outside), nn.ReLU()]


# Generated modules are used like torch's own, and take their arguments in the same order.
VARIANTS: dict[str, Norm] = {
    "BatchNorm": BatchNorm,
    "GroupNorm": partial(GroupNorm, GROUPS),
    "SwitchNorm": SwitchNorm,
    "BlendNorm": partial(BlendNorm, GROUPS),
    "nn.BatchNorm2d": nn.BatchNorm2d,
}


def experiment(quick: bool) -> Experiment:
    """Scikit-learn's 1,797 scans of 8 x 8 pixels, three in ten held out."""
    scans = load_digits()
    images = torch.from_numpy(scans.images)[:, None] / 16  # N, 1, 8, 8; between 0 and 1
    target = torch.from_numpy(scans.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[:540], order[540:]
    if quick:
        rest = rest[:128]

    def training(generator: torch.Generator) -> Iterator[Batch]:
        shuffled = rest[torch.randperm(len(rest), generator=generator)]
        for chosen in shuffled.split(BATCH):
            yield Batch(images[chosen], target[chosen])

    return Experiment(
        title="Digits: a small CNN",
        variants=[Variant(name, partial(Network, norm)) for name, norm in VARIANTS.items()],
        training=training,
        held_out=Batch(images[held_out], target[held_out]),
        epochs=1 if quick else 12,
        steps=len(rest[::BATCH]),
        learning_rate=0.01,
        same=("BatchNorm", "nn.BatchNorm2d"),
        changed={"dimmed": Batch(images[held_out] / 2, target[held_out])},
    )


def batch_shares(network: nn.Module) -> list[Tensor]:
    """What each BlendNorm of a network has learned: the batch's share in each channel's pool."""
    norms = (module for module in network.modules() if isinstance(module, BlendNorm))
    return [torch.sigmoid(norm.gate.detach()) for norm in norms]
