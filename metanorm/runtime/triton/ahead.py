"""Compiles kernels for GPUs that need not be there, and counts the registers that they use."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.triton.failures import as_cannot_build
from metanorm.runtime.triton.interpreter import is_interpreting
from metanorm.runtime.triton.tiles import (
    CELLS,
    MAX_COLUMNS,
    MAX_HELD,
    MAX_TILE,
    MIN_COLUMNS,
    PARTS,
    PER_WARP,
    TILE,
    WARPS,
    next_power_of_two,
)

ARCHITECTURES = (80, 90)  # A100, H100
CELL = 8  # adjacent channels of a group
REGISTERS = re.compile(r"Used (\d+) registers")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel for one architecture: registers of a thread, and bytes spilled from them."""

    kernel: str
    architecture: int
    tile: tuple[int, int]
    warps: int
    registers: int
    spilled: int
    ptx: str


def compile_kernels(
    module: ModuleType, only: Sequence[str] = (), architectures: Sequence[int] = ARCHITECTURES
) -> Iterator[CompiledKernel]:
    """Compile the kernels of a module, or some of them, for float32 and their largest tiles.

    Needs no GPU. Raises `CannotBuild` if kernels are interpreted.
    """
    if is_interpreting():
        raise CannotBuild("kernels are interpreted in this process", "unset TRITON_INTERPRET")
    for name, step in _steps(module).items():
        if not only or name in only:
            for architecture in architectures:
                yield _compile(getattr(module, name), step, architecture)


def _steps(module: ModuleType) -> dict[str, Mapping[str, Any]]:
    """For each kernel, a step that launches it."""
    return {
        launch["kernel"]: launch
        for table in module.__dict__["TABLES"].values()
        for schedules in table["steps"].values()
        for schedule in ("sweeps", "islands")
        for step in schedules[schedule]
        for launch in (step, *step.get("phases", ()))
        if "kernel" in launch
    }


def _compile(kernel: Any, step: Mapping[str, Any], architecture: int) -> CompiledKernel:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    rows, columns = _tile(step)
    fixed = {"REAL": tl.float32, "INDEX": tl.int32, "ROWS": rows, "BLOCK": columns, "LANES": CELL}
    for suffix, phase in _phases(step):
        fixed[f"CELLS{suffix}"] = CELLS if phase["cells"] else 1
        fixed[f"PARTS{suffix}"] = PARTS
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: dict[tuple[int, ...], list[list[object]]] = {}
    for position, (parameter, key) in enumerate(
        zip(kernel.arg_names, step["arguments"].split("; "))
    ):
        kind = key.split(" ")[0]
        if kernel.params[position].is_constexpr:
            signature[parameter] = "constexpr"
            usual = {"size": CELL, "dtype": tl.bfloat16}
            constants[parameter] = fixed.get(key, usual.get(kind, 1e-5))
            continue
        if kind == "stride" and key.split(" ")[-1] == _contiguous_dim(step):
            signature[parameter], constants[parameter] = "constexpr", 1  # as a launch finds it
            continue
        signature[parameter] = _triton_type(kind)
        if signature[parameter].startswith("*") or kind in ("stride", "size"):
            aligned[position,] = [["tt.divisibility", 16]]
    warps = min(max(rows * columns // PER_WARP, 1), 32) if "columns" in step else WARPS
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", architecture, 32)
    try:
        binary = triton.compile(source, target=target, options={"num_warps": warps})
        ptx: str = binary.asm["ptx"]
        registers, spilled = _assemble(ptx, architecture)
    except Exception as error:
        raise as_cannot_build(error, step["kernel"]) from error
    return CompiledKernel(
        step["kernel"], architecture, (rows, columns), warps, registers, spilled, ptx
    )


def _phases(step: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The phases of a kernel, each with the suffix of its constants."""
    if "cells" in step:
        yield "", step
    for number, phase in enumerate(step.get("phases", ()), 1):
        yield f" {number}", phase


def _tile(step: Mapping[str, Any]) -> tuple[int, int]:
    """The largest tile of a kernel."""
    if "columns" not in step:
        return 1, 1
    max_tile = min(next_power_of_two(MAX_HELD // step["keeps"] + 1) // 2, MAX_TILE)
    match step["down"], step["across"]:
        case "whole", "whole":
            return max_tile // MAX_COLUMNS, MAX_COLUMNS
        case "whole", "part":
            return max_tile // MIN_COLUMNS, MIN_COLUMNS
        case "part", "whole":
            return 1, max_tile
    return (TILE // MAX_COLUMNS if step["rows"] else 1), MAX_COLUMNS


def _contiguous_dim(step: Mapping[str, Any]) -> str:
    """The dimension of stride one."""
    columns = step.get("columns", ("",))
    return str(columns[-1].removeprefix("size ").split(".")[0])


def _triton_type(kind: str) -> str:
    """The type of an argument in a signature of Triton."""
    if kind in ("starts", "order", "index", "links"):
        return "*i64"
    pointers = dict.fromkeys(("tensor", "value", "part"), "*fp32")
    numbers = dict.fromkeys(("momentum", "argument"), "fp64")
    return {**pointers, **numbers}.get(kind, "i32")


def _assemble(ptx: str, architecture: int) -> tuple[int, int]:
    """The registers of a thread and the bytes spilled, as NVIDIA's assembler reports them."""
    from triton import knobs

    name = f"sm_{architecture}a" if architecture == 90 else f"sm_{architecture}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [knobs.nvidia.ptxas.path, "-v", f"--gpu-name={name}", str(path)]
        command += ["-o", str(Path(folder) / "kernel.cubin")]
        messages = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spills = REGISTERS.search(messages), SPILLS.search(messages)
    assert registers is not None
    return int(registers[1]), int(spills[1]) + int(spills[2]) if spills else 0
