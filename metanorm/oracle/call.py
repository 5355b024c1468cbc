"""A call of a module, and its results, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Call:
    """One call of a module, as data.

    `inputs` has `None` for inputs left out. `hypers` holds the arguments of the constructor: for a
    length an `int`, or a tuple for a group of axes. `epsilon` is the value of a hyperparameter that
    is `None`. `keeps` is whether there are running statistics, and `batches` the number of updates,
    this one included. Random numbers have the dtype `draws_in`, and come from torch's generator.
    `rounded` is applied to every computed value, to show the effect of rounding on a result.
    `dtypes` holds those of inputs and parameters, to which a spec may round; the rest is float64.
    """

    inputs: Mapping[str, Tensor | None]
    params: Mapping[str, Tensor | None] = field(default_factory=dict)
    buffers: Mapping[str, Tensor | None] = field(default_factory=dict)
    hypers: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    training: bool = True
    keeps: bool = True
    batches: int = 1
    epsilon: float = 0.0
    draws_in: torch.dtype = torch.float64
    rounded: Callable[[Tensor], Tensor] | None = None
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)


@dataclass
class Result:
    """Outputs by name, in order, and the new contents of buffers."""

    outputs: dict[str, Tensor]
    updates: dict[str, Tensor]
