"""Whether a generated module has kernels: in C for the CPU, in Triton for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

from metanorm.runtime.kernels.table import kernel_source
from metanorm.runtime.triton.kernels import has_kernel_file

# For each device type, whether the module in a file has kernels beside it.
HAS_KERNELS: Mapping[str, Callable[[str], bool]] = {
    "cpu": lambda file: bool(kernel_source(file)),
    "cuda": has_kernel_file,
}


def has_kernels(module: ModuleType, device: str = "cpu") -> bool:
    """Whether a generated module has kernels for a device type."""
    return HAS_KERNELS[device](module.__file__ or "")
