"""Triton's compiler and its driver: kernels compiled before a call begins, and launched directly.

Everything here that is not Triton's documented interface is looked at before it is used: where
something is not as it was in the versions that are known, launches go through the dispatcher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from metanorm.runtime.kernels.refusals import CannotBuild
from metanorm.runtime.triton.failures import told

KNOWN = ((3, 6), (3, 9))  # the first and the last version whose launchers take what `Direct` has
OPTIONS = {"enable_fp_fusion": True}  # said, for what it is otherwise changes with versions
OLDEST = 70  # GPUs by compute capability, times ten
BFLOAT16 = 80  # from which one on they compute with bfloat16


class Direct(NamedTuple):
    """A compiled kernel as the driver launches it, and which arguments of a call are its own."""

    run: Callable[..., None]
    programs: int
    function: int
    metadata: Any
    pick: Callable[[list[Any]], tuple[Any, ...]]
    compiled: Any  # kept, for its binary is unloaded with it


def demand_driver() -> None:
    """Raise `CannotBuild` where Triton cannot reach a GPU, or is not whole."""
    try:
        _driver().active.get_current_target()
    except Exception as error:
        raise told(error, "any kernel") from error


def demand_able(types: set[torch.dtype]) -> None:
    """Raise `CannotBuild` for a GPU that is too old for kernels on these types."""
    target = _driver().active.get_current_target()
    if target.backend != "cuda":
        return
    own = f"this GPU is of compute capability {target.arch / 10}"
    if target.arch < OLDEST:
        raise CannotBuild(f"{own}, and Triton needs {OLDEST / 10}", "use a newer one")
    if target.arch < BFLOAT16 and torch.bfloat16 in types:
        raise CannotBuild(f"{own}, and bfloat16 needs {BFLOAT16 / 10}", "use float16 or float32")


def compiled(kernel: Any, programs: int, warps: int, arguments: tuple[Any, ...]) -> Any:
    """A kernel for such arguments, compiled and loaded. Raises `CannotBuild`."""
    try:
        made = kernel.run(*arguments, grid=(programs,), warmup=True, num_warps=warps, **OPTIONS)
        made = made.result() if hasattr(made, "result") else made
        made.run  # noqa: B018 - loads it
        if made.function is None:  # where that has failed before
            made._init_handles()
        return made
    except Exception as error:
        raise told(error, kernel.__name__) from error


def direct(made: Any, programs: int, pick: Callable[[list[Any]], tuple[Any, ...]]) -> Direct | None:
    """How a compiled kernel is launched past the dispatcher; `None` where that is not known."""
    if not known():
        return None
    try:
        return Direct(made.run, programs, made.function, made.packed_metadata, pick, made)
    except AttributeError:
        return None


def known() -> bool:
    """Whether Triton is one whose launchers are known."""
    import triton

    try:
        version = tuple(map(int, triton.__version__.split(".")[:2]))
        target = _driver().active.get_current_target()
        return KNOWN[0] <= version <= KNOWN[1] and target.backend == "cuda"
    except (AttributeError, ValueError):
        return False


def hooked() -> bool:
    """Whether somebody, such as a profiler, is to hear of each launch."""
    runtime = _knobs()
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


def stream(device: torch.device) -> int:
    """The current stream of a device."""
    found: int = _driver().active.get_current_stream(device.index or 0)
    return found


# Triton is imported by who launches kernels, and looked up once, since every call asks for it.


@functools.cache
def _driver() -> Any:
    from triton.runtime import driver

    return driver


@functools.cache
def _knobs() -> Any:
    from triton import knobs

    return knobs.runtime
