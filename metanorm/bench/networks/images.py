"""Networks for images: the CNN of the demo, and a residual network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # a norm for so many channels


class Digits(nn.Sequential):
    """The CNN of `docs/demo`: four convolutions, each with its norm."""

    def __init__(self, norm: Norm, width: int = 16) -> None:
        super().__init__(
            *_convolution(norm, 1, width),
            *_convolution(norm, width, width),
            nn.MaxPool2d(2),
            *_convolution(norm, width, 2 * width),
            *_convolution(norm, 2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 10),
        )


def _convolution(norm: Norm, inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
    """A convolution, its norm, a nonlinearity; the norm has the bias."""
    convolution = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
    return [convolution, norm(outside), nn.ReLU()]


class Block(nn.Module):
    """A residual block of two convolutions (He et al., 2015)."""

    def __init__(self, norm: Norm, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        *body, _ = _convolution(norm, outside, outside)
        self.body = nn.Sequential(*_convolution(norm, inside, outside, stride), *body)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, norm(outside))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the convolutions and the shortcut."""
        y: Tensor = self.body(x) + self.shortcut(x)
        return y.relu()


class ResNet(nn.Sequential):
    """A residual network for images of 32 x 32: three stages of two blocks."""

    def __init__(self, norm: Norm, width: int = 16) -> None:
        blocks, inside = [], width
        for stage in range(3):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(Block(norm, inside, width << stage, stride))
                inside = width << stage
        super().__init__(
            *_convolution(norm, 3, width),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inside, 10),
        )
