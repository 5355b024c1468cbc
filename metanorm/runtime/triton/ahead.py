"""Kernels compiled for GPUs that need not be there, with the registers that they take."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from metanorm.runtime.kernels.refusals import CannotBuild
from metanorm.runtime.triton.failures import told
from metanorm.runtime.triton.interpreter import interpreting
from metanorm.runtime.triton.tiles import (
    CELLS,
    HELD,
    LARGEST,
    NARROWEST,
    PARTS,
    PER_WARP,
    TILE,
    WARPS,
    WIDEST,
    above,
)

ARCHITECTURES = (80, 90)  # A100, H100
CELL = 8  # channels of a group that lie side by side
REGISTERS = re.compile(r"Used (\d+) registers")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True)
class Compiled:
    """One kernel for one architecture: registers of a thread, bytes that did not fit them."""

    kernel: str
    architecture: int
    tile: tuple[int, int]
    warps: int
    registers: int
    spilled: int
    ptx: str


def compiled(
    module: ModuleType, only: Sequence[str] = (), architectures: Sequence[int] = ARCHITECTURES
) -> Iterator[Compiled]:
    """Compile the kernels of a module, or some of them, for float32 and the largest tiles that
    they are launched with. Needs no GPU. Raises `CannotBuild` where kernels are interpreted."""
    if interpreting():
        raise CannotBuild("kernels are interpreted in this process", "unset TRITON_INTERPRET")
    for name, step in _steps(module).items():
        if not only or name in only:
            for architecture in architectures:
                yield _compiled(getattr(module, name), step, architecture)


def _steps(module: ModuleType) -> dict[str, Mapping[str, Any]]:
    """A step that launches each kernel."""
    return {
        own["kernel"]: own
        for table in module.__dict__["TABLES"].values()
        for ways in table["steps"].values()
        for schedule in ("sweeps", "islands", "walked")
        for step in ways[schedule]
        for own in (step, *step.get("phases", ()))
        if "kernel" in own
    }


def _compiled(kernel: Any, step: Mapping[str, Any], architecture: int) -> Compiled:
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
    for place, (parameter, key) in enumerate(zip(kernel.arg_names, step["arguments"].split("; "))):
        word = key.split(" ")[0]
        if kernel.params[place].is_constexpr:
            signature[parameter] = "constexpr"
            usual = {"size": CELL, "dtype": tl.bfloat16}
            constants[parameter] = fixed.get(key, usual.get(word, 1e-5))
            continue
        if word == "stride" and key.split(" ")[-1] == _neighbours(step):
            signature[parameter], constants[parameter] = "constexpr", 1  # as a launch finds it
            continue
        signature[parameter] = _type(word)
        if signature[parameter].startswith("*") or word in ("stride", "size"):
            aligned[place,] = [["tt.divisibility", 16]]
    warps = min(max(rows * columns // PER_WARP, 1), 32) if "columns" in step else WARPS
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", architecture, 32)
    try:
        made = triton.compile(source, target=target, options={"num_warps": warps})
        ptx: str = made.asm["ptx"]
        registers, spilled = _assembled(ptx, architecture)
    except Exception as error:
        raise told(error, step["kernel"]) from error
    return Compiled(step["kernel"], architecture, (rows, columns), warps, registers, spilled, ptx)


def _phases(step: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The phases of a kernel, with what the names of their constants end in."""
    if "cells" in step:
        yield "", step
    for number, phase in enumerate(step.get("phases", ()), 1):
        yield f" {number}", phase


def _tile(step: Mapping[str, Any]) -> tuple[int, int]:
    """The largest tile of a kernel."""
    if "columns" not in step:
        return 1, 1
    held = min(above(HELD // step["keeps"] + 1) // 2, LARGEST)
    match step["down"], step["across"]:
        case "whole", "whole":
            return held // WIDEST, WIDEST
        case "whole", "part":
            return held // NARROWEST, NARROWEST
        case "part", "whole":
            return 1, held
        case ("part", "walk") | ("walk", "whole"):
            return 1, TILE
        case "walk", "part":
            return TILE // NARROWEST, NARROWEST
        case "walk", _:
            return TILE // WIDEST, WIDEST
    return (TILE // WIDEST if step["rows"] else 1), WIDEST


def _neighbours(step: Mapping[str, Any]) -> str:
    """The dimension along which memory runs."""
    columns = step.get("columns", ("",))
    return str(columns[-1].removeprefix("size ").split(".")[0])


def _type(word: str) -> str:
    """The type of an argument, as Triton writes it."""
    if word in ("starts", "order", "index"):
        return "*i64"
    return {"tensor": "*fp32", "value": "*fp32", "part": "*fp32", "momentum": "fp64"}.get(
        word, "i32"
    )


def _assembled(ptx: str, architecture: int) -> tuple[int, int]:
    """Registers of a thread, and bytes of them that go through memory, by NVIDIA's assembler."""
    from triton import knobs

    name = f"sm_{architecture}a" if architecture == 90 else f"sm_{architecture}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [knobs.nvidia.ptxas.path, "-v", f"--gpu-name={name}", str(path)]
        command += ["-o", str(Path(folder) / "kernel.cubin")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spills = REGISTERS.search(told), SPILLS.search(told)
    assert registers is not None
    return int(registers[1]), int(spills[1]) + int(spills[2]) if spills else 0
