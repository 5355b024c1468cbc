"""A driver of a GPU that is not there.

Triton compiles for it as for any other: real specialisation of real arguments, real PTX, and a
real binary from NVIDIA's assembler. What a launch brings is checked against what the kernel was
compiled for, and written down instead of run. Tensors of the CPU stand for those of the GPU.
"""

from __future__ import annotations

import bisect
import functools
import gc
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import max_shared_mem

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.triton import plan_cache, tiles
from metanorm.targets.live import module_from_files
from metanorm.workspace import load_library

STREAM = 7
SHARED = {80: 166_912, 90: 232_448}  # bytes that a program may have, of an A100 and an H100
PROCESSORS = {80: 108, 90: 132}
RESOURCE_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
INTEGER_BITS = {"i32": 31, "i64": 63}
TYPES = {
    "*fp32": torch.float32, "*fp64": torch.float64, "*bf16": torch.bfloat16,
    "*fp16": torch.float16, "*i64": torch.int64, "*u8": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """One launch: registers of a thread, and bytes of its stack, where registers go that do not
    fit."""

    kernel: str
    architecture: int
    grid: tuple[int, int, int]
    warps: int
    registers: int
    stack: int
    arguments: dict[str, Any]


@dataclass
class Recorder:
    """The driver, as far as Triton and metanorm ask it anything."""

    architecture: int = 90
    launches: list[Launched] = field(default_factory=list)
    device: int = 0
    stream: int = STREAM
    failure: Exception | None = None  # of every binary that is loaded
    broken: Exception | None = None  # of every launch
    loaded: dict[int, tuple[int, int]] = field(default_factory=dict)  # by its handle

    def __post_init__(self) -> None:
        self.utils = self
        self.launcher_cls = lambda source, metadata: Launcher(self, source, metadata)

    # ---- what Triton asks

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        assert device == self.device
        return self.stream

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED[self.architecture], "warpSize": 32}

    def load_binary(
        self, name: str, binary: bytes, shared: int, device: int
    ) -> tuple[object, int, int, int, int]:
        if self.failure is not None:
            raise self.failure
        used = resources(binary)
        handle = 4096 + len(self.loaded)
        self.loaded[handle] = used
        return object(), handle, used[0], used[1] // 4, 1024


class Launcher:
    """Checks what a launch of one kernel brings."""

    def __init__(self, recorder: Recorder, source: Any, metadata: Any) -> None:
        self.recorder, self.source, self.metadata = recorder, source, metadata

    def __call__(
        self, x: int, y: int, z: int, stream: int, function: int, packed: Sequence[int],
        launch_metadata: Any, enter: Any, leave: Any, *arguments: Any,
    ) -> None:  # fmt: skip
        recorder, source = self.recorder, self.source
        if recorder.broken is not None:
            raise recorder.broken
        assert 0 < x < 2**31 and y == z == 1 and stream == recorder.stream
        assert tuple(packed) == (self.metadata.num_warps, 1, self.metadata.shared)
        for hook in (enter, leave):
            if hook is not None:
                hook(launch_metadata)
        assert len(arguments) == len(source.signature), source.name
        arguments_by_name = dict(zip(source.signature, arguments))
        for index, (name, type_) in enumerate(source.signature.items()):
            try:
                self._check((index,), type_, arguments_by_name[name])
            except AssertionError as error:
                raise AssertionError(f"{source.name}: {name}, {type_}: {error}") from None
        recorder.launches.append(
            Launched(
                source.name,
                recorder.architecture,
                (x, y, z),
                self.metadata.num_warps,
                *recorder.loaded[function],
                arguments_by_name,
            )
        )

    def _check(self, path: tuple[int], type_: str, value: Any) -> None:
        constants = {tuple(at): constant for at, constant in self.source.constants.items()}
        if type_ == "constexpr":
            assert path in constants
            constant = getattr(constants[path], "value", constants[path])
            assert value is constant or value == constant, f"{value} instead of {constant}"
            return
        if type_ in INTEGER_BITS:
            assert type(value) is int and abs(value) < 2 ** INTEGER_BITS[type_], value
        elif type_ == "fp64":
            assert isinstance(value, (int, float)), value
        else:
            value = value if type(value) is int else value.data_ptr()
            demand_memory(value, TYPES[type_])
        if ["tt.divisibility", 16] in self.source.attrs.get(path, []):
            assert value % 16 == 0, f"{value} was said to be a multiple of 16"


def resources(binary: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = RESOURCE_USAGE.search(report)
    assert usage is not None, report
    return int(usage[1]), int(usage[2])


# ---- memory that tensors have

_starts: list[int] = []
_memories: dict[int, tuple[int, set[torch.dtype]]] = {}


def demand_memory(address: int, dtype: torch.dtype) -> None:
    """An address lies in the memory of a living tensor of this type."""
    if not _is_inside(address, dtype):
        _find_tensors()
    assert _is_inside(address, dtype), f"no tensor of {dtype} is at {address}"


def _is_inside(address: int, dtype: torch.dtype) -> bool:
    index = bisect.bisect_right(_starts, address) - 1
    if index < 0:
        return False
    end, dtypes = _memories[_starts[index]]
    return address < end and dtype in dtypes


def _find_tensors() -> None:
    _memories.clear()
    for candidate in gc.get_objects():
        if issubclass(type(candidate), Tensor) and candidate.device.type == "cpu":
            memory = candidate.untyped_storage()
            entry = _memories.setdefault(
                memory.data_ptr(), (memory.data_ptr() + memory.nbytes(), set())
            )
            entry[1].add(candidate.dtype)
    _starts[:] = sorted(_memories)


def compiled(name: str) -> ModuleType:
    """The module of a spec, with kernels that no GPU has seen."""
    library = load_library()
    roots = [root for root in library.roots if module_name(root) == name]
    files = compile_specs(library.sources, roots, Options(target="triton")).files
    return module_from_files(files, name)


module_of = functools.cache(compiled)  # the same one again, for the same recorder


@contextmanager
def recording(architecture: int = 90) -> Iterator[Recorder]:
    """Kernels for tensors of the CPU, launched on a GPU that is not there."""
    recorder = Recorder(architecture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_cache, "device_type", lambda: "cpu")
        patch.setattr(tiles, "multiprocessors", lambda device: PROCESSORS[architecture])
        triton.runtime.driver.set_active(recorder)
        max_shared_mem.cache_clear()
        yield recorder
    module_of.cache_clear()  # whose kernels were loaded by this one
    triton.runtime.driver._active = None
