"""Running statistics, and bounded parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.runtime.arguments import demand_real
from metanorm.runtime.averaging import batches_averaged
from metanorm.runtime.errors import ShapeError
from metanorm.runtime.tensors import demand_memory, has_address


def moved(running: Tensor, value: Tensor, momentum: float | Tensor) -> Tensor:
    """A running statistic after a step towards `value`, as a new tensor.

    `momentum` is the weight of the new value. A tensor is the number of values before, which all
    have the same weight.
    """
    demand_same_shape(running, value)
    value = value.detach()
    before = running.detach().to(value.dtype)  # half precision cannot hold the difference
    step = value - before
    return before + (step / (momentum + 1) if isinstance(momentum, Tensor) else step * momentum)


def store_(*updates: tuple[Tensor, Tensor | float]) -> None:
    """Replace the contents of buffers, without gradient: of all of them, or of none.

    A value on the `meta` device, in a call that only propagates shapes, changes nothing.

    Raises `ShapeError` for a value of another shape than its buffer, and `RuntimeError` for a
    buffer that cannot be written to.
    """
    for buffer, value in updates:
        if isinstance(value, Tensor):
            demand_same_shape(buffer, value)
        demand_writable(buffer)
    # Not under `no_grad`: torch.export makes a region of that, which it cannot save. Not `copy_`:
    # torch.compile loses it for a scalar.
    for buffer, value in updates:
        if not (isinstance(value, Tensor) and value.is_meta and not buffer.is_meta):
            buffer[...] = value.detach() if isinstance(value, Tensor) else value


def demand_same_shape(buffer: Tensor, value: Tensor) -> None:
    """Raise `ShapeError` for another shape than that of the buffer, also if it broadcasts."""
    if value.shape != buffer.shape:
        raise ShapeError(
            f"a buffer of shape {list(buffer.shape)} cannot keep values of shape "
            f"{list(value.shape)}: was it replaced?"
        )


def demand_writable(buffer: Tensor) -> None:
    """Raise `RuntimeError` for a buffer that torch would not write to, before any is written."""
    if torch.compiler.is_compiling():
        return
    demand_memory(buffer)
    problem = ""
    if buffer.requires_grad and torch.is_grad_enabled() and _is_of_leaf(buffer):
        problem = "it requires a gradient"
    elif buffer.is_inference() and not torch.is_inference_mode_enabled():
        problem = "it was made in inference mode"
    elif buffer.layout is torch.strided and _repeats(buffer):
        problem = "its elements share memory, as `expand` has it"
    if problem:
        raise RuntimeError(
            f"nothing can be stored into a buffer of shape {list(buffer.shape)}: {problem}"
        )


def _is_of_leaf(tensor: Tensor) -> bool:
    """Whether a tensor is a leaf of autograd, or a view of one."""
    base = tensor._base
    return tensor.is_leaf or (base is not None and base.is_leaf)


def _repeats(tensor: Tensor) -> bool:
    """Whether two elements share memory, as the strides tell."""
    return any(size > 1 and not step for size, step in zip(tensor.shape, tensor.stride()))


def copied(buffer: Tensor) -> Tensor:
    """A copy of a buffer, before it is written to.

    Not `clone()`: the backward pass of torch.compile would repeat it after the write.
    """
    return torch.empty_like(buffer).copy_(buffer)


def tensors_of(module: nn.Module, *names: str) -> list[Any]:
    """Parameters and buffers of a module by name, five times as fast as by attributes."""
    parameters, buffers = module._parameters, module._buffers
    tensors: list[Any] = []
    for name in names:
        if name in parameters:
            tensors.append(parameters[name])
        elif name in buffers:
            tensors.append(buffers[name])
        else:  # a parametrization, pruning, or `DataParallel` has put something else there
            tensors.append(getattr(module, name))
    return tensors


def counter_of(module: nn.Module) -> Tensor | None:
    """The tensor that counts batches, if this call of a norm is counted; else `None`.

    Raises `RuntimeError` if it cannot be written to.
    """
    if not (module.training and module.track_running_stats):
        return None
    (counter,) = tensors_of(module, "num_batches_tracked")
    # It is counted up last, after the statistics: check it now.
    if counter is not None and not _is_plainly_writable(counter):
        demand_writable(counter)
    return counter  # type: ignore[no-any-return]


def _is_plainly_writable(buffer: Tensor) -> bool:
    """Whether a scalar is one that `demand_writable` allows, by cheap checks."""
    return (
        not torch.compiler.is_compiling()
        and type(buffer) is Tensor
        and buffer.dim() == 0
        and not buffer.requires_grad
        and not buffer.is_inference()
        and has_address(buffer)
    )


def momentum_of(momentum: float | None, counter: Tensor | None) -> float | Tensor:
    """The momentum that `moved` takes: a number, or for `momentum=None` the number of batches.

    That stays an integer tensor: no read synchronizes with a GPU, and nothing is rounded to
    float32. Inside of `average_all_batches`, a norm without a counter takes the count of the mode.
    """
    batches = batches_averaged()
    if batches is not None:
        return batches if counter is None else counter
    if momentum is not None:
        return momentum
    return 0.0 if counter is None else counter


def eye_(matrices: Tensor, blocks: bool = False) -> Tensor:
    """Fill the last two dimensions of a tensor with an identity matrix; returns it.

    With `blocks`, fill them with square identity matrices below each other.
    """
    rows, columns = matrices.shape[-2:]
    with torch.no_grad():
        matrices.zero_()
        for first in range(0, rows if blocks else 1, max(columns, 1)):
            matrices[..., first:, :].diagonal(dim1=-2, dim2=-1).fill_(1)
    return matrices


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
