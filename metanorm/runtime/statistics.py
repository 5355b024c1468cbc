"""Recomputes the running statistics of a model from data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from metanorm.runtime.averaging import average_all_batches


def update_statistics(
    loader: Iterable[Any], model: nn.Module, device: torch.device | str | None = None
) -> None:
    """Compute the running statistics of a model anew, as averages over all batches.

    What `torch.optim.swa_utils.update_bn` does, for every norm that tracks statistics: generated
    ones, hybrids with several momenta or a fixed one among them, and torch's own. Buffers that a
    spec itself updates move by its rule, as in training. Norms whose `track_running_stats` was set
    to `False` are left as they are.

    Args:
        loader: batches; of a tuple or a list the first item is the input, and a mapping is given as
            keyword arguments.
        model: called with each batch in training mode, without gradients; its modes come back.
        device: where tensors are moved to before the call.

    Raises:
        ValueError: if there is no batch. Then, and where a call fails, statistics are as before.
    """
    layers = [module for module in model.modules() if _tracks(module)]
    buffers = list(model.buffers())
    old_values = [buffer.clone() for buffer in buffers]
    modes = [(module, module.training) for module in model.modules()]
    torch_momenta = [(m, m.momentum) for m in layers if isinstance(m, (_BatchNorm, _InstanceNorm))]
    has_batches = False
    try:
        for layer in layers:
            layer.reset_running_stats()  # type: ignore[operator]
        model.train()
        with torch.no_grad(), average_all_batches() as batches:
            for batch in loader:
                for layer, _ in torch_momenta:
                    # Of torch's layers, instance norm cannot average over all batches by itself.
                    counts = isinstance(layer, _BatchNorm)
                    layer.momentum = None if counts else 1 / (batches.item() + 1)
                _call_model(model, batch, device)
                batches += 1
                has_batches = True
        if not has_batches:
            raise ValueError("the loader has no batches: statistics are as they were")
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(buffers, old_values):
                buffer.copy_(value)
        raise
    finally:
        for module, training in modes:
            module.training = training
        for layer, momentum in torch_momenta:
            layer.momentum = momentum


def _tracks(module: nn.Module) -> bool:
    """Whether a module has running statistics that it updates."""
    return (
        callable(getattr(module, "reset_running_stats", None))
        and bool(getattr(module, "track_running_stats", False))
        and getattr(module, "num_batches_tracked", None) is not None
    )


def _call_model(model: nn.Module, batch: Any, device: torch.device | str | None) -> None:
    if isinstance(batch, (list, tuple)):
        batch = batch[0]
    if isinstance(batch, Mapping):
        model(**{name: _to_device(value, device) for name, value in batch.items()})
    else:
        model(_to_device(batch, device))


def _to_device(value: Any, device: torch.device | str | None) -> Any:
    return value.to(device) if device is not None and hasattr(value, "to") else value
