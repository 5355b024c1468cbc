"""Describes the machine of a benchmark: processor, GPU, and versions of software."""

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
    """This machine, with its GPU if the device is one."""
    cpu_machine = Machine(
        processor=_processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        metanorm=__version__,
    )
    if device == "cpu":
        return cpu_machine
    return cpu_machine.model_copy(
        update={
            "gpu": torch.cuda.get_device_name(),
            "driver": driver(),
            "cuda": torch.version.cuda or torch.version.hip or UNKNOWN,
        }
    )


def driver() -> str:
    """The version of NVIDIA's driver, by `nvidia-smi`."""
    try:
        process = subprocess.run(DRIVER, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return next(iter(process.stdout.split()), UNKNOWN)


def _processor() -> str:
    """The name of the processor by Linux, or else by Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
