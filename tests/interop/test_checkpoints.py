"""The state of an optimizer goes by the position of a parameter: checkpoints of layers go on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

F64 = torch.float64
ROWS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
PAIRS: dict[str, tuple[Callable[[ModuleType], nn.Module], Callable[[], nn.Module], tuple[Any, ...]]]
PAIRS = {
    "BatchNorm": (lambda m: m.BatchNorm(4), lambda: nn.BatchNorm1d(4), ()),
    "InstanceNorm": (
        lambda m: m.InstanceNorm(4, affine=True),
        lambda: nn.InstanceNorm1d(4, affine=True),
        (),
    ),
    "LayerNorm": (lambda m: m.LayerNorm((4, 5)), lambda: nn.LayerNorm((4, 5)), ()),
    "RMSNorm": (lambda m: m.RMSNorm((4, 5)), lambda: nn.RMSNorm((4, 5)), ()),
    "GroupNorm": (lambda m: m.GroupNorm(2, 4), lambda: nn.GroupNorm(2, 4), ()),
    "GraphNorm": (lambda m: m.GraphNorm(4), lambda: pyg.GraphNorm(4), (ROWS,)),
    "HeteroLayerNorm": (
        lambda m: m.HeteroLayerNorm(4, 3),
        lambda: pyg.HeteroLayerNorm(4, 3),
        (ROWS,),
    ),
}


def trained(
    layer: nn.Module, further: tuple[Any, ...], optimizer: torch.optim.Optimizer, seed: int
) -> Tensor:
    """The result after three steps towards random targets."""
    random = torch.Generator().manual_seed(seed)
    shape = (8, 4) if further else (8, 4, 5)
    for _ in range(3):
        x, target = (torch.randn(shape, generator=random, dtype=F64) for _ in range(2))
        optimizer.zero_grad()
        loss = (layer(x, *further) - target).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    result: Tensor = layer(x, *further)
    return result.detach()


@pytest.mark.parametrize("name", PAIRS)
def test_training_goes_on_where_the_other_layer_stopped(name: str, library: ModuleType) -> None:
    make, reference, further = PAIRS[name]
    theirs, ours = reference().double(), make(library).double()
    optimizers = [torch.optim.Adam(layer.parameters(), 0.1) for layer in (theirs, ours)]
    trained(theirs, further, optimizers[0], seed=0)
    ours.load_state_dict(theirs.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    actual, right = (
        trained(layer, further, optimizer, seed=1)
        for layer, optimizer in ((ours, optimizers[1]), (theirs, optimizers[0]))
    )
    torch.testing.assert_close(actual, right)
    for parameter, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(parameter, other)
