"""A norm with the arguments that a layer was made with."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

# Names for the same. What is not found under any of them is not guessed.
SIZES = (
    "normalized_shape",
    "num_features",
    "num_channels",
    "hidden_size",
    "in_channels",
    "channels",
    "features",
    "d_model",
    "dim",
)
EPS = ("eps", "epsilon", "variance_epsilon", "layer_norm_epsilon", "norm_eps")
TRACKS = "track_running_stats"
SWITCHES = ("affine", "elementwise_affine")


class Unknown(Exception):
    """An argument that a layer does not tell."""


def made_like(norm: type[nn.Module], layer: nn.Module) -> nn.Module:
    """The norm, constructed as the layer was. Raises `Unknown`, and what the constructor raises."""
    tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    first = next((t for t in tensors if t.is_floating_point()), None)
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(norm).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("device", "dtype"):
            if first is not None:
                given[name] = getattr(first, name)
            continue
        value = _argument(name, str(parameter.annotation), layer)
        if value is not parameter.empty:
            given[name] = value
        elif parameter.default is parameter.empty or name in EPS:
            advice = _advice(name, str(parameter.annotation), layer)
            raise Unknown(f"does not tell the `{name}` of {norm.__name__}{advice}")
    _demand_counts(layer, norm)
    made = norm(**given)
    if getattr(layer, TRACKS, None) is False:  # set later, where there are statistics
        setattr(made, TRACKS, False)
    return made


def _demand_counts(layer: nn.Module, norm: type[nn.Module]) -> None:
    """Refuse a layer that was made with a whole number which the norm does not take.

    Such a number, that of groups say, decides what is pooled, even where it is one.
    """
    taken = inspect.signature(norm).parameters
    for name in inspect.signature(type(layer)).parameters:
        value = getattr(layer, name, None)
        if type(value) is int and name not in (*SIZES, *taken):
            raise Unknown(f"was made with {name}={value}, which {norm.__name__} does not take")


def _advice(name: str, annotation: str, layer: nn.Module) -> str:
    """What to write where an argument may be a length that has the name of its axis."""
    known = next((size for size in SIZES if hasattr(layer, size)), None)
    if known is None or annotation not in ("int", str(int)):
        return ""
    axis = name.upper()
    return f", which may be a length: `{axis} = {known}` in the spec gives it a name to find it by"


def _argument(name: str, annotation: str, layer: nn.Module) -> Any:
    """The argument that a layer was made with, `Parameter.empty` where it does not tell."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if name == "bias":
        return bias is not None
    if name in SWITCHES:
        return weight is not None
    if name == TRACKS:
        statistics = [name for name in layer._buffers if name.startswith("running_")]
        kept = any(layer._buffers[name] is not None for name in statistics)
        if kept and isinstance(layer, _InstanceNorm) and not layer.track_running_stats:
            # Which takes those of its input in evaluation then, and updates the others for nothing.
            raise Unknown("has statistics that it does not use; set them to None")
        return kept
    if name in SIZES:
        return _size(layer, weight, annotation)
    for known in EPS if name in EPS else (name,):
        value = getattr(layer, known, inspect.Parameter.empty)
        if not callable(value) and not isinstance(value, Tensor):
            if value is None and "None" not in annotation:
                raise Unknown(f"has None as its `{known}`")
            return value
    return inspect.Parameter.empty


def _size(layer: nn.Module, weight: Tensor | None, annotation: str) -> Any:
    found = [getattr(layer, name) for name in SIZES if hasattr(layer, name)]
    sizes = [f for f in found if isinstance(f, (int, Sequence)) and not isinstance(f, str)]
    shape = sizes[0] if sizes else None if weight is None else tuple(weight.shape)
    if shape is None:
        return inspect.Parameter.empty
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    if annotation not in ("int", str(int)):
        return lengths
    if len(lengths) != 1:
        raise Unknown(f"has the shape {lengths}, where one length is wanted")
    return lengths[0]
