"""Whether a norm runs on its kernels: plain torch is not to be timed in their name."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from metanorm.bench.device import Device
from metanorm.explain.kernels import execution_status
from metanorm.ir.nodes import Program
from metanorm.runtime import use
from metanorm.verify.kernels import has_kernels

RAN_ON_TORCH = "ran on torch"


class RanOnTorch(Exception):
    """A call that no kernels serve; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{RAN_ON_TORCH}: {reason}")
        self.reason = reason


def demand_kernels(
    optimised: Program, module: ModuleType, device: Device, call: Callable[[], object]
) -> None:
    """Raise `RanOnTorch` where a norm has no kernels for a device, or none that serve the call."""
    state = execution_status(optimised, device.type)
    if state != "kernels":
        raise RanOnTorch(state.removeprefix("torch: "))
    if not has_kernels(module, device.type):
        raise RanOnTorch("the module was compiled without kernels")
    try:
        with use(device.kernels):
            call()
    except RuntimeError as error:
        _, refused, reason = str(error).partition(": the call ")
        if not refused:  # a mistake of the call itself, which is no matter of kernels
            raise
        raise RanOnTorch(f"the call {reason}") from error


def one_line_reason(error: Exception) -> str:
    """Why something could not be timed, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
