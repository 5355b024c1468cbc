"""Whether torch-scatter is installed, and on which devices it runs."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec

import torch

WITHOUT_CUDA = "torch-scatter was built without CUDA"
REMEDY = "pip install 'metanorm[scatter]'"


@cache
def problem() -> str:
    """Why torch-scatter cannot be used; empty if it can."""
    if find_spec("torch_scatter") is None:
        return "torch-scatter is not installed"
    try:
        importlib.import_module("torch_scatter")
    except (ImportError, OSError, RuntimeError) as error:  # built for another torch or CUDA
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return f"torch-scatter cannot be loaded: {first}"
    return ""


@cache
def on_cuda() -> bool:
    """Whether it was built for the CUDA that torch has."""
    return not problem() and int(torch.ops.torch_scatter.cuda_version()) != -1


def who_adds() -> tuple[str, str]:
    """What sums groups of rows with sorted labels on a GPU: `torch-scatter`, or `torch` and why.

    On CPUs it is torch, which is faster there.
    """
    if problem():
        return "torch", problem()
    return ("torch-scatter", "") if on_cuda() else ("torch", WITHOUT_CUDA)
