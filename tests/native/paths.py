"""The functions behind norms, and the path that their calls take."""

from __future__ import annotations

import pytest
from torch import nn

from metanorm import runtime
from metanorm.runtime.dispatch import _Dispatcher

through_c = pytest.mark.skipif(
    runtime.call_path().name != "c", reason="calls take the path through Python here"
)


def functions(module: nn.Module) -> list[_Dispatcher]:
    """The functions of the generated module that a layer comes from."""
    names = vars(type(module))["forward"].__globals__
    return [value for value in names.values() if isinstance(value, _Dispatcher)]


def used(module: nn.Module) -> list[_Dispatcher]:
    """Those of them that kernels in C have served."""
    return [function for function in functions(module) if "native" in function._plan_caches]


def takes_c(module: nn.Module) -> bool:
    """Whether calls of a layer take the path through C."""
    return any(f._entry is not None for f in functions(module))
