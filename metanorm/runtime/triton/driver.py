"""Triton's compiler and driver: kernels are compiled before a call begins, and launched directly.

Everything here that is not Triton's documented interface is checked before it is used. If something
is not as in the versions that are known, launches go through the dispatcher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.triton.failures import as_cannot_build

KNOWN_VERSIONS = ((3, 6), (3, 9))  # first and last whose launchers take a `DirectLaunch`
OPTIONS = {"enable_fp_fusion": True}  # the default differs between versions
MIN_CAPABILITY = 70  # compute capability of a GPU, times ten
BFLOAT16_CAPABILITY = 80  # the first that computes with bfloat16


class DirectLaunch(NamedTuple):
    """A compiled kernel as the driver launches it; `pick` picks its arguments."""

    run: Callable[..., None]
    programs: int
    function: int
    metadata: Any
    pick: Callable[[list[Any]], tuple[Any, ...]]
    kernel: Any  # kept alive: its binary is unloaded with it


def demand_driver() -> None:
    """Raise `CannotBuild` if Triton cannot reach a GPU, or is installed in part."""
    try:
        _driver().active.get_current_target()
    except Exception as error:
        raise as_cannot_build(error, "any kernel") from error


def demand_capable(dtypes: set[torch.dtype]) -> None:
    """Raise `CannotBuild` for a GPU that is too old for kernels on these dtypes."""
    target = _driver().active.get_current_target()
    if target.backend != "cuda":
        return
    capability = f"this GPU is of compute capability {target.arch / 10}"
    if target.arch < MIN_CAPABILITY:
        raise CannotBuild(
            f"{capability}, and Triton needs {MIN_CAPABILITY / 10}", "use a newer one"
        )
    if target.arch < BFLOAT16_CAPABILITY and torch.bfloat16 in dtypes:
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


def direct_launch(
    kernel: Any, programs: int, pick: Callable[[list[Any]], tuple[Any, ...]]
) -> DirectLaunch | None:
    """The launch of a compiled kernel past the dispatcher; `None` if it is not known how."""
    if not is_known_version():
        return None
    try:
        function, metadata = kernel.function, kernel.packed_metadata
        return DirectLaunch(kernel.run, programs, function, metadata, pick, kernel)
    except AttributeError:
        return None


def is_known_version() -> bool:
    """Whether this version of Triton has launchers that are known."""
    import triton

    try:
        version = tuple(map(int, triton.__version__.split(".")[:2]))
        target = _driver().active.get_current_target()
        return KNOWN_VERSIONS[0] <= version <= KNOWN_VERSIONS[1] and target.backend == "cuda"
    except (AttributeError, ValueError):
        return False


def has_hooks() -> bool:
    """Whether launches have hooks, such as those of a profiler."""
    runtime = _knobs()
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


def stream(device: torch.device) -> int:
    """The current stream of a device."""
    current: int = _driver().active.get_current_stream(device.index or 0)
    return current


# Triton is imported when a kernel is launched. The modules are cached, as every call uses them.


@functools.cache
def _driver() -> Any:
    from triton.runtime import driver

    return driver


@functools.cache
def _knobs() -> Any:
    from triton import knobs

    return knobs.runtime
