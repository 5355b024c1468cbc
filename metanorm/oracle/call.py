"""A call of a module and what comes of it, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Call:
    """One call of a module, as data.

    `inputs` holds `None` for what is left out, `hypers` what the constructor was given
    (for a size: an `int`, or a tuple for a group of axes), `epsilon` what a hyperparameter that is
    `None` stands for. `keeps` is whether there are running statistics, `batches` how many updates
    there have been, this one included. Random numbers are drawn in the dtype `draws_in`, from
    torch's own generator. `rounded` is done to each number that is computed: by it the oracle shows
    what rounding does to a result. `dtypes` has those of inputs and parameters, to which a spec may
    round: whatever it does not name is in float64.
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
