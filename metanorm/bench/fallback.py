"""Checks that a norm runs on its kernels, so that plain torch is not timed instead."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from metanorm.bench.device import Device
from metanorm.explain.kernels import execution_status
from metanorm.ir.program import Program
from metanorm.runtime import use
from metanorm.verify.kernels import has_kernels

RAN_ON_TORCH = "ran on torch"


class RanOnTorch(Exception):
    """No kernels serve a call; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{RAN_ON_TORCH}: {reason}")
        self.reason = reason


def demand_kernels(
    optimised: Program, module: ModuleType, device: Device, call: Callable[[], object]
) -> None:
    """Raise `RanOnTorch` if a norm has no kernels for a device, or none that serve the call."""
    execution = execution_status(optimised, device.type)
    if execution != "kernels":
        raise RanOnTorch(execution.removeprefix("torch: "))
    if not has_kernels(module, device.type):
        raise RanOnTorch("the module was compiled without kernels")
    try:
        with use(device.kernels):
            call()
    except RuntimeError as error:
        _, refused, reason = str(error).partition(": the call ")
        if not refused:  # an error of the call itself
            raise
        raise RanOnTorch(f"the call {reason}") from error


def one_line_reason(error: Exception) -> str:
    """The first line of an error, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
