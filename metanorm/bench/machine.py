"""Where times were taken: processor, GPU, and versions of what runs there."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from metanorm.bench.report import Machine
from metanorm.version import __version__

DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
UNKNOWN = "unknown"


def machine(device: str) -> Machine:
    """This one, and its GPU where that is what runs."""
    own = Machine(
        processor=_processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        metanorm=__version__,
    )
    if device == "cpu":
        return own
    return own.model_copy(
        update={
            "gpu": torch.cuda.get_device_name(),
            "driver": driver(),
            "cuda": torch.version.cuda or torch.version.hip or UNKNOWN,
        }
    )


def driver() -> str:
    """The version of NVIDIA's driver, as its own command tells it."""
    try:
        told = subprocess.run(DRIVER, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return next(iter(told.stdout.split()), UNKNOWN)


def _processor() -> str:
    """What Linux calls the processor; elsewhere, what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
