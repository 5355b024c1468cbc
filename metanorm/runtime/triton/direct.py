"""Launches past Triton's dispatcher, which takes half of the time that the host takes for a call.

Nothing here is Triton's documented interface, so all is checked before it is used. Where something
is not as in the versions that are known, there are no direct launches, and the dispatcher serves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metanorm.runtime.triton import driver

KNOWN_VERSIONS = ((3, 6), (3, 9))  # first and last whose launchers take a `DirectLaunch`
Pick = Callable[[list[Any]], tuple[Any, ...]]  # picks the arguments of a launch from those of all


class DirectLaunch(NamedTuple):
    """A compiled kernel as the driver launches it; `pick` picks its arguments."""

    run: Callable[..., None]
    programs: int
    function: int
    metadata: Any
    pick: Pick
    kernel: Any  # kept alive: its binary is unloaded with it


def direct_launches(
    kernels: Sequence[Any], programs: Sequence[int], picks: Sequence[Pick]
) -> list[DirectLaunch] | None:
    """The launches of compiled kernels; `None` if only the dispatcher can launch them."""
    launches = [_direct_launch(*launch) for launch in zip(kernels, programs, picks)]
    return None if None in launches else launches  # type: ignore[return-value]


def run(launches: Sequence[DirectLaunch], arguments: list[Any], stream: int) -> None:
    """Launch kernels with the addresses in `arguments`."""
    for run_kernel, programs, function, metadata, pick, _ in launches:
        run_kernel(programs, 1, 1, stream, function, metadata, None, None, None, *pick(arguments))


def _direct_launch(kernel: Any, programs: int, pick: Pick) -> DirectLaunch | None:
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
        target = driver.target()
        return KNOWN_VERSIONS[0] <= version <= KNOWN_VERSIONS[1] and target.backend == "cuda"
    except (AttributeError, ValueError):
        return False


def has_hooks() -> bool:
    """Whether launches have hooks, such as those of a profiler."""
    runtime = _knobs()
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


@functools.cache
def _knobs() -> Any:
    from triton import knobs

    return knobs.runtime
