"""Norms for weights: their initial parameters, and how they are registered on a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Layers whose weight has the outputs along its first axis. A transposed convolution has the
# inputs there.
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def begin_(parameter: nn.Parameter, value: Tensor, weight: Tensor) -> None:
    """Initialize a parameter with a value, and with its shape if that differs.

    If `weight` is a parameter, the new one requires a gradient as it does.
    """
    with torch.no_grad():
        if parameter.shape == value.shape and parameter.dtype == value.dtype:
            parameter.copy_(value)
        else:
            parameter.data = value.detach().clone()
    if isinstance(weight, nn.Parameter):
        parameter.requires_grad_(weight.requires_grad)


def waits(parameter: Tensor | None) -> bool:
    """Whether a parameter or buffer is not initialized yet, as it needs the weight.

    Under torch.fx it is taken to be initialized.
    """
    return isinstance(parameter, Tensor) and parameter.numel() == 0


def on_weights(
    model: nn.Module,
    norm: Callable[[], nn.Module],
    layers: type[nn.Module] | tuple[type[nn.Module], ...] = LAYERS,
    name: str = "weight",
) -> list[str]:
    """Put a norm for weights on every layer of these types; returns their names.

    `norm` makes one, such as the class: each layer gets its own. Do this before the optimizer is
    made, which has to know the parameters of the norms. For a single layer, and to take norms
    off again, there is `torch.nn.utils.parametrize`.

    Raises `ValueError`, before anything is changed, if a weight has a parametrization already,
    and `ShapeError` at a weight that the norm cannot take.
    """
    named_layers = [
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, layers) and isinstance(getattr(layer, name, None), Tensor)
    ]
    for path, layer in named_layers:
        if parametrize.is_parametrized(layer, name):
            raise ValueError(f"{path or 'the model'} has a parametrization of its {name} already")
    for _, layer in named_layers:
        parametrize.register_parametrization(layer, name, norm())
    return [path for path, _ in named_layers]
