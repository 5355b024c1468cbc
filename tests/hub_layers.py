"""Layers for the kernels hub in tests: run by the runtime at hand, with the state of a norm."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def run_here(files: Mapping[str, str]) -> dict[str, str]:
    """The files with the runtime that is installed instead of a copy of it."""
    copy, here = "from . import _runtime as runtime", "from metanorm import runtime"
    return {file: text.replace(copy, here) for file, text in files.items()}


def norm_with_layer(name: str, norm: type, layer: Any) -> ModuleType:
    """A module with the class of a norm, whose `forward` is that of the layer."""
    module = ModuleType("layers")
    module.__file__ = sys.modules[layer.__module__].__file__
    vars(module)[name] = type(name, (norm,), {"forward": layer.forward})
    return module
