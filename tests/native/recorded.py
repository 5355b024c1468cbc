"""Calls of C kernels, written down with all their memory, and replayed under sanitizers.

Python, torch and libgomp know nothing of sanitizers. So a call is recorded where it would be
made, and `replay.c` makes it again, in a program of its own that is built with them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from metanorm.runtime.backends import through_python
from metanorm.runtime.native import calls, plan_cache
from metanorm.runtime.native.compiler import HEADERS

REPLAY = Path(__file__).with_name("replay.c")
THREADS = 3
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread",)
CC = shutil.which("gcc") or shutil.which("cc") or ""


@dataclass
class Kernel:
    """A kernel, and the calls of it that were recorded."""

    source: str
    defines: Mapping[str, str]
    entry: str
    calls: list[bytes] = field(default_factory=list)


class Recorder:
    """The calls of kernels while this is in force, by kernel."""

    def __init__(self) -> None:
        self.kernels: dict[int, Kernel] = {}
        self.constants: list[Tensor] = []

    def loaded(self, source: str, defines: Mapping[str, str], library: ctypes.CDLL) -> None:
        """A library whose kernel may be called."""
        entry = "forward" if hasattr(library, "forward") else "backward"
        function = getattr(library, entry)
        self.kernels.setdefault(id(function), Kernel(source, defines, entry))

    def called(
        self, prepared: Any, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> bytes:  # fmt: skip
        """A call as `replay.c` reads it, but for what it is expected to return."""
        values = prepared.template.copy()
        values[0] = THREADS
        places: list[tuple[int, Tensor]] = []
        for at, operand_number in prepared.pointers:
            operand = operands[operand_number]
            if operand is not None:
                places.append((at, operand))
        places += [(slot.offset, result) for slot, result in zip(prepared.results, results)]
        if kept is not None:
            places.append((prepared.saved_offset, kept))
        for at, momentum in zip(prepared.momenta, momenta):
            values[at] = momentum
        constant = {t.data_ptr(): t for t in (*prepared.constants, *self.constants) if t.numel()}
        taken = {at for at, _ in places}
        for at, value in enumerate(values):
            if at not in taken and isinstance(value, int) and value in constant:
                places.append((at, constant[value]))
        for at, _ in places:
            values[at] = 0
        packed = prepared.pack(*values)
        parts = [struct.pack("=q", len(packed)), packed, struct.pack("=q", len(places))]
        for at, tensor in places:
            memory = bytes_of(tensor)
            begin = tensor.storage_offset() * tensor.element_size()
            parts += [struct.pack("=qqq", 8 * at, begin, len(memory)), memory]
        return b"".join(parts)


def bytes_of(tensor: Tensor) -> bytes:
    """The whole storage that a tensor lies in."""
    storage = tensor.untyped_storage()
    return ctypes.string_at(storage.data_ptr(), storage.nbytes()) if storage.nbytes() else b""


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record all calls of kernels, which go through Python meanwhile."""
    recorder = Recorder()
    section, run, launch = calls.KernelLibrary.section, plan_cache.run, plan_cache.NativePlan.launch

    def section_of(self: Any, defines: Mapping[str, str]) -> ctypes.CDLL:
        library = section(self, defines)
        recorder.loaded(self.source, defines, library)
        return library

    def recorded(prepared: Any, *rest: Any) -> None:
        call = recorder.called(prepared, *rest)
        outcome = 0
        try:
            run(prepared, *rest)
        except RuntimeError:
            outcome = 2
            raise
        finally:
            kernel = recorder.kernels[id(prepared.function)]
            kernel.calls.append(struct.pack("=q", outcome) + call)

    def launched(self: Any, *rest: Any) -> None:
        recorder.constants = [t for t in self.extra_values.values() if isinstance(t, Tensor)]
        launch(self, *rest)

    calls.KernelLibrary.section = section_of  # type: ignore[method-assign]
    plan_cache.run = recorded
    plan_cache.NativePlan.launch = launched  # type: ignore[method-assign]
    try:
        with through_python():
            yield recorder
    finally:
        calls.KernelLibrary.section = section  # type: ignore[method-assign]
        plan_cache.run = run
        plan_cache.NativePlan.launch = launch  # type: ignore[method-assign]


def problems(kernel: Kernel, flags: Sequence[str], place: Path, headers: Path = HEADERS) -> str:
    """What a sanitizer says of the recorded calls of a kernel; empty where it says nothing."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "kernel.c").write_text(kernel.source, encoding="utf-8")
    defines = [f"-D{name}={value}" for name, value in kernel.defines.items()]
    # Without optimisation gcc takes a third of the time, and leaves out no access to be checked.
    common = ["-std=gnu11", "-O0", "-g", "-w", "-pthread", *flags]
    subprocess.run(
        [CC, *common, "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-DSERIAL=1", *defines,
         f"-DENTRY={kernel.entry}", "-I", str(headers),
         "kernel.c", str(REPLAY), "-o", "replay", "-lm"],
        cwd=place, check=True, capture_output=True,
    )  # fmt: skip
    names = []
    for number, call in enumerate(kernel.calls):
        names.append(f"{number}.call")
        (place / names[-1]).write_bytes(call)
    done = subprocess.run(
        ["./replay", *names], cwd=place, capture_output=True, text=True, timeout=600,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "TSAN_OPTIONS": "halt_on_error=1"},
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    return f"status {done.returncode}\n{done.stderr[:4000]}"
