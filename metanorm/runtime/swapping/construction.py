"""Constructs a norm with the arguments of a layer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

# Synonyms. An argument that no attribute with one of these names has is not guessed.
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


class UnknownArgument(Exception):
    """An argument of a norm that no attribute of a layer has."""


def construct_like(norm: type[nn.Module], layer: nn.Module) -> nn.Module:
    """The norm with the arguments of a layer.

    Raises `UnknownArgument`, and the errors of the constructor.
    """
    tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    tensor = next((t for t in tensors if t.is_floating_point()), None)
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(norm).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("device", "dtype"):
            if tensor is not None:
                arguments[name] = getattr(tensor, name)
            continue
        value = _argument(name, str(parameter.annotation), layer)
        if value is not parameter.empty:
            arguments[name] = value
        elif parameter.default is parameter.empty or name in EPS:
            hint = _hint(name, str(parameter.annotation), layer)
            raise UnknownArgument(f"does not tell the `{name}` of {norm.__name__}{hint}")
    _demand_counts(layer, norm)
    module = norm(**arguments)
    if getattr(layer, TRACKS, None) is False:  # set later, as the norm keeps statistics
        setattr(module, TRACKS, False)
    return module


def _demand_counts(layer: nn.Module, norm: type[nn.Module]) -> None:
    """Raise `UnknownArgument` for a layer with an integer argument that the norm does not take.

    Such an argument, as a number of groups, decides what is pooled, even if it is one.
    """
    taken = inspect.signature(norm).parameters
    for name in inspect.signature(type(layer)).parameters:
        value = getattr(layer, name, None)
        if type(value) is int and name not in (*SIZES, *taken):
            raise UnknownArgument(
                f"was made with {name}={value}, which {norm.__name__} does not take"
            )


def _hint(name: str, annotation: str, layer: nn.Module) -> str:
    """A hint for an argument that may be a length with the name of its axis."""
    size_name = next((size for size in SIZES if hasattr(layer, size)), None)
    if size_name is None or annotation not in ("int", str(int)):
        return ""
    axis = name.upper()
    return (
        f", which may be a length: `{axis} = {size_name}` in the spec gives it a name to find it by"
    )


def _argument(name: str, annotation: str, layer: nn.Module) -> Any:
    """The value of an argument, from the attributes of a layer; `Parameter.empty` if unknown."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if name == "bias":
        return bias is not None
    if name in SWITCHES:
        return weight is not None
    if name == TRACKS:
        statistics = [name for name in layer._buffers if name.startswith("running_")]
        has_statistics = any(layer._buffers[name] is not None for name in statistics)
        if has_statistics and isinstance(layer, _InstanceNorm) and not layer.track_running_stats:
            # In evaluation it uses the statistics of its input then, and updates its own in vain.
            raise UnknownArgument("has statistics that it does not use; set them to None")
        return has_statistics
    if name in SIZES:
        return _shape_argument(layer, weight, annotation)
    for attribute in EPS if name in EPS else (name,):
        value = getattr(layer, attribute, inspect.Parameter.empty)
        if not callable(value) and not isinstance(value, Tensor):
            if value is None and "None" not in annotation:
                raise UnknownArgument(f"has None as its `{attribute}`")
            return value
    return inspect.Parameter.empty


def _shape_argument(layer: nn.Module, weight: Tensor | None, annotation: str) -> Any:
    values = [getattr(layer, name) for name in SIZES if hasattr(layer, name)]
    sizes = [
        value
        for value in values
        if isinstance(value, (int, Sequence)) and not isinstance(value, str)
    ]
    shape = sizes[0] if sizes else None if weight is None else tuple(weight.shape)
    if shape is None:
        return inspect.Parameter.empty
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    if annotation not in ("int", str(int)):
        return lengths
    if len(lengths) != 1:
        raise UnknownArgument(f"has the shape {lengths}, where one length is wanted")
    return lengths[0]
