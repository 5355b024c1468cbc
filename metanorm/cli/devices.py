"""The option `--device`: where norms run."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from metanorm.options import Options
from metanorm.workspace import WorkspaceError

Device = Literal["cpu", "cuda"]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where norms run: cuda is a GPU.")]


def options_for(device: Device, configured: Options) -> Options:
    """The options to compile with: a GPU needs Triton kernels, whatever is configured."""
    from metanorm.targets.registry import KERNEL_TARGETS, target_for_device

    names = list(KERNEL_TARGETS)
    needed = target_for_device(device).name
    has_kernels = configured.target in names and names.index(configured.target) >= names.index(
        needed
    )
    return configured if device == "cpu" or has_kernels else replace(configured, target=needed)


def require_device(device: Device) -> None:
    """Raise `WorkspaceError` if torch cannot use a GPU, before anything is compiled.

    A missing torch is no error here: the command reports that.
    """
    if device == "cpu":
        return
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        return
    raise WorkspaceError(
        "--device cuda needs a GPU, and "
        + why_no_gpu(torch.__version__, torch.version.cuda, torch.version.hip)
    )


def why_no_gpu(version: str, cuda: str | None, hip: str | None) -> str:
    """Why torch has no GPU, and what to do about it."""
    built_for = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else ""
    if not built_for:
        return (
            f"torch {version} is built for the CPU alone: "
            "https://pytorch.org/get-started/locally has builds for GPUs"
        )
    return (
        f"torch {version} ({built_for}) finds none: `nvidia-smi` tells whether there is one "
        "and its driver works; CUDA_VISIBLE_DEVICES must not hide it"
    )
