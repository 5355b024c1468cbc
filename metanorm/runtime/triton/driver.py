"""Triton's compiler and driver: kernels are compiled before a call begins."""

from __future__ import annotations

import functools
from typing import Any

import torch

from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.triton.failures import as_cannot_build

OPTIONS = {"enable_fp_fusion": True}  # the default differs between versions
MIN_CAPABILITY = 70  # compute capability of a GPU, times ten
BFLOAT16_CAPABILITY = 80  # the first that computes with bfloat16


def demand_driver() -> None:
    """Raise `CannotBuild` if Triton cannot reach a GPU, or is installed in part."""
    try:
        target()
    except Exception as error:
        raise as_cannot_build(error, "any kernel") from error


def demand_capable(dtypes: set[torch.dtype]) -> None:
    """Raise `CannotBuild` for a GPU that is too old for kernels on these dtypes."""
    gpu = target()
    if gpu.backend != "cuda":
        return
    capability = f"this GPU is of compute capability {gpu.arch / 10}"
    if gpu.arch < MIN_CAPABILITY:
        raise CannotBuild(
            f"{capability}, and Triton needs {MIN_CAPABILITY / 10}", "use a newer one"
        )
    if gpu.arch < BFLOAT16_CAPABILITY and torch.bfloat16 in dtypes:
        needs = f"bfloat16 needs {BFLOAT16_CAPABILITY / 10}"
        raise CannotBuild(f"{capability}, and {needs}", "use float16 or float32")


def compile_kernel(kernel: Any, programs: int, warps: int, arguments: tuple[Any, ...]) -> Any:
    """Compile and load a kernel for such arguments. Raises `CannotBuild`."""
    try:
        compiled = kernel.run(*arguments, grid=(programs,), warmup=True, num_warps=warps, **OPTIONS)
        compiled = compiled.result() if hasattr(compiled, "result") else compiled
        compiled.run  # noqa: B018 - loads it
        if compiled.function is None:  # loading it has failed before
            compiled._init_handles()
        return compiled
    except Exception as error:
        raise as_cannot_build(error, kernel.__name__) from error


def target() -> Any:
    """The device that kernels are compiled for, as Triton describes it."""
    return _driver().active.get_current_target()


def stream(device: torch.device) -> int:
    """The current stream of a device."""
    current: int = _driver().active.get_current_stream(device.index or 0)
    return current


@functools.cache  # Triton is imported when a kernel is launched, and every call uses it
def _driver() -> Any:
    from triton.runtime import driver

    return driver
