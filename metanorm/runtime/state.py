"""Running statistics, and bounded parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from metanorm.runtime.arguments import demand_real
from metanorm.runtime.averaging import is_averaging
from metanorm.runtime.errors import ShapeError
from metanorm.runtime.kernels.fit import demand_memory


def moved(running: Tensor, value: Tensor, momentum: float | Tensor) -> Tensor:
    """A running statistic after a step towards `value`; nothing is changed.

    `momentum` is the weight of the new value; as a tensor, the number of values before, which all
    weigh alike.
    """
    value = value.detach()
    before = running.detach().to(value.dtype)  # half precision cannot hold the difference
    step = value - before
    return before + (step / (momentum + 1) if isinstance(momentum, Tensor) else step * momentum)


def store_(*updates: tuple[Tensor, Tensor | float]) -> None:
    """Replace the contents of buffers, without gradient: of all of them, or of none.

    Raises `ShapeError` where a buffer has no room for what is to be kept in it.
    """
    for buffer, value in updates:
        demand_memory(buffer)
        if isinstance(value, Tensor) and value.shape != buffer.shape:
            _demand_room(buffer, value)
    # Detached, not under `no_grad`: torch.export would make a region of that, which it cannot save.
    for buffer, value in updates:  # and torch.compile would lose copy_() of a single number
        buffer[...] = value.detach() if isinstance(value, Tensor) else value


def _demand_room(buffer: Tensor, value: Tensor) -> None:
    """Refuse a value that the buffer cannot hold, even repeated."""
    fits = value.dim() <= buffer.dim() and all(
        size in (1, room) for size, room in zip(reversed(value.shape), reversed(buffer.shape))
    )
    if not fits:
        raise ShapeError(
            f"a buffer of shape {list(buffer.shape)} cannot keep values of shape "
            f"{list(value.shape)}: was it replaced?"
        )


def copied(buffer: Tensor) -> Tensor:
    """A buffer as it is before it is stored into.

    Not `clone()`, which the backward of torch.compile would take again, of what is stored then.
    """
    return torch.empty_like(buffer).copy_(buffer)


def counter_of(module: nn.Module) -> Tensor | None:
    """The number of batches so far, where this call of a norm is to be counted among them."""
    if not (module.training and module.track_running_stats):
        return None
    counter: Tensor | None = module.num_batches_tracked  # type: ignore[assignment]
    return counter


def momentum_of(momentum: float | None, counter: Tensor | None) -> float | Tensor:
    """What `moved` takes: `momentum`, or where that is `None`, the number of batches so far.

    Left a tensor, and whole, so that nothing waits for a GPU and nothing is rounded to float32.
    """
    if momentum is not None and (counter is None or not is_averaging()):
        return momentum
    return 0.0 if counter is None else counter


def no_elements(
    x: Tensor, sources: Iterable[Tensor | None], shape: Sequence[int] | None = None
) -> Tensor:
    """The result for an input without elements: empty, or zeros of the `shape` of another output.

    The gradients by all `sources`, further inputs and parameters, are zero.
    """
    demand_real(x)
    result = x.clone() if shape is None else x.new_zeros(shape) + x.sum()
    for source in sources:
        if source is not None and source.is_floating_point():
            result = result + source[None][:0].sum()  # of nothing, so that NaN does not arrive
    return result.to(x.dtype)


def project_(model: nn.Module) -> None:
    """Bring every bounded parameter of a model back into its interval. Call it after each
    optimizer step."""
    for module in model.modules():
        project = getattr(module, "project_", None)
        if project is not None:
            project()
