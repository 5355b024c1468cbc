"""The functions behind norms, and the path that their calls take."""

from __future__ import annotations

import pytest
import torch
from layers import fresh_module
from torch import nn

from metanorm import runtime
from metanorm.runtime.dispatch import _Dispatcher
from metanorm.runtime.targets import CALL_PATH_TARGET

through_c = pytest.mark.skipif(
    runtime.call_path().name != "c", reason="calls take the path through Python here"
)


def functions(module: nn.Module) -> list[_Dispatcher]:
    """The functions of the generated module that a layer comes from."""
    names = vars(type(module))["forward"].__globals__
    return [value for value in names.values() if isinstance(value, _Dispatcher)]


def used(module: nn.Module) -> list[_Dispatcher]:
    """Those of them that kernels in C have served."""
    return [function for function in functions(module) if CALL_PATH_TARGET in function._plan_caches]


def takes_c(module: nn.Module) -> bool:
    """Whether calls of a layer take the path through C."""
    return any(f._entry is not None for f in functions(module))


def uncalled() -> nn.Module:
    """A layer norm of a module of its own, which no call has seen."""
    return fresh_module("layer_norm").LayerNorm(6)  # type: ignore[no-any-return]


def called() -> nn.Module:
    """The same after a first call, which has taken the path through C."""
    module = uncalled()
    module(torch.randn(2, 6))
    assert takes_c(module)
    return module
