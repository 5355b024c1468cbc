"""Whether a generated module has kernels."""

from __future__ import annotations

from types import ModuleType

from metanorm.runtime.targets import TARGET_OF_DEVICE


def has_kernels(module: ModuleType, device: str = "cpu") -> bool:
    """Whether a generated module has kernels for a device type."""
    return TARGET_OF_DEVICE[device].has_kernels(module.__file__ or "")
