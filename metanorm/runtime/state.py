"""Running statistics, and bounded parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from metanorm.runtime.arguments import demand_real
from metanorm.runtime.averaging import is_averaging


def track_(running: Tensor, value: Tensor, momentum: float | Tensor) -> None:
    """Move a running statistic towards `value`, without gradient.

    `momentum` is the weight of the new value; as a tensor, the number of values so far, which
    all weigh alike.
    """
    # Detached, not under `no_grad`: torch.export would make a region of that, which it cannot save.
    value = value.detach()
    before = running.to(value.dtype)  # a buffer in half precision cannot hold the difference
    step = value - before
    step = step / momentum if isinstance(momentum, Tensor) else step * momentum
    running[...] = before + step  # torch.compile would lose copy_() of a single number


def store_(buffer: Tensor, value: Tensor | float) -> None:
    """Replace the contents of a buffer, without gradient."""
    buffer[...] = value.detach() if isinstance(value, Tensor) else value


def copied(buffer: Tensor) -> Tensor:
    """A buffer as it is before it is stored into.

    Not `clone()`, which the backward of torch.compile would take again, of what is stored then.
    """
    return torch.empty_like(buffer).copy_(buffer)


def momentum_of(momentum: float | None, batches: Tensor) -> float | Tensor:
    """What `track_` takes: `momentum`, or where that is `None`, the number of batches so far.

    Left a tensor, and whole, so that nothing waits for a GPU and nothing is rounded to float32.
    """
    return batches if momentum is None or is_averaging() else momentum


def no_elements(x: Tensor, parameters: Iterable[Tensor | None]) -> Tensor:
    """The result for an input without elements: empty, with zero gradients for all parameters."""
    demand_real(x)
    result = x.clone()
    for parameter in parameters:
        if parameter is not None:
            result = result + parameter.sum() * 0
    return result.to(x.dtype)


def project_(model: nn.Module) -> None:
    """Bring every bounded parameter of a model back into its interval. Call it after each
    optimizer step."""
    for module in model.modules():
        project = getattr(module, "project_", None)
        if project is not None:
            project()
