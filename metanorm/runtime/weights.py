"""Norms for weights: the parameters that they begin with, and putting them on a whole model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Layers whose weight has the outputs along its first axis. A transposed convolution has the
# inputs there.
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def begin(parameter: nn.Parameter | None, value: Tensor, weight: Tensor) -> nn.Parameter:
    """A parameter that has this value, the same one as before where its shape allows.

    A new one learns if the `weight` does, of which it is a part.
    """
    with torch.no_grad():
        if parameter is not None and parameter.shape == value.shape:
            parameter.copy_(value)
            return parameter
        frozen = isinstance(weight, nn.Parameter) and not weight.requires_grad
        return nn.Parameter(value.detach().clone(), requires_grad=not frozen)


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
    found = [
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, layers) and isinstance(getattr(layer, name, None), Tensor)
    ]
    for path, layer in found:
        if parametrize.is_parametrized(layer, name):
            raise ValueError(f"{path or 'the model'} has a parametrization of its {name} already")
    for _, layer in found:
        parametrize.register_parametrization(layer, name, norm())
    return [path for path, _ in found]
