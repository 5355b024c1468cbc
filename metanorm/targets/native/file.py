"""The C file of a module: for each of its norms a table in a comment, and its kernels.

`metanorm.runtime.native` reads the table; a build defines the section that it wants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from metanorm.ir.flags import choosing_flags
from metanorm.ir.nodes import Program
from metanorm.ir.scalar import Const, Hyper
from metanorm.ir.space import Space
from metanorm.passes.arms import without_statistics
from metanorm.targets.native.interface import Field
from metanorm.targets.native.source import Arm, Kernel, Source
from metanorm.targets.native.text_from_cir import text_from_cir


def file_text(norms: Mapping[str, tuple[Program, Source, str | None]]) -> str:
    """The text of the file: for each function its program, its kernels, and the type of its
    result where there are several."""
    parts = []
    for function, (program, source, results) in norms.items():
        table = json.dumps(table_of(function, program, source, results), indent=1)
        parts.append(f"/* metanorm kernels\n{compact(table)}\n*/\n")
        parts.append(text_from_cir(source.sections))
    return "\n".join(parts)


def compact(table: str) -> str:
    """JSON with lists of words on one line."""
    lines: list[str] = []
    for line in table.split("\n"):
        inner = line.strip()
        if lines and (lines[-1].endswith("[") or (inner.startswith('"') and _in_list(lines[-1]))):
            lines[-1] += ("" if lines[-1].endswith("[") else " ") + inner
        elif lines and inner.startswith("]") and "[" in lines[-1]:
            lines[-1] += inner
        else:
            lines.append(line)
    return "\n".join(lines)


def _in_list(line: str) -> bool:
    return "[" in line and not line.rstrip().endswith(("]", "],", "{", "}"))


def table_of(function: str, program: Program, source: Any, results: str | None) -> dict[str, Any]:
    """What the runtime has to know of the kernels of a function, of whatever target they are."""
    space = program.index.space
    sizes = {axis: a.name for a in program.arguments if a.type == "size" for axis in a.axes}
    dims = dict.fromkeys(dim for d in program.declarations for dim in d.dims)
    matrices = [a for a in program.arguments if a.type == "matrix"]
    variadic = [dim for dim in dims if space[dim].variadic]
    return {
        "function": function,
        "tensors": {
            d.name: [_dim(space, dim) for dim in d.dims]
            for d in program.declarations
        } | {a.name: list(a.axes) for a in matrices},
        "matrices": {a.name: a.axes[0] for a in matrices},
        "divisible": {dim: list(by) for dim, by in source.divisible},
        "lengths": _declared_lengths(program, space),
        "defaults": {
            i.name: i.default for i in program.inputs if isinstance(i.default, (int, float))
        },
        "ranks": {dim: sizes[dim] for dim in variadic if dim in sizes},
        "momenta": sorted(
            {f.name for arm in source.arms for k in arm.forward.values() for f in k.fields
             if f.kind == "momentum"}
        ),
        "tracked": [b.name for b in program.buffers if b.tracked],
        "buffers": [b.name for b in program.buffers],
        "without_statistics": without_statistics(program),
        "flags": choosing_flags(program),
        "results": results,
        **_dtypes(program),
        "sorts": {i.name: i.sort for i in program.inputs if i.sort != "tensor"}
        | {a.name: "matrix" for a in matrices},
        "arms": {arm.name: _arm(arm, space) for arm in source.arms},
    }  # fmt: skip


def _dtypes(program: Program) -> dict[str, Any]:
    """The dtypes of outputs that have another one than the first input: a tensor, or a name."""
    found = {n: d.name if d.like else f"torch.{d.name}" for n, d in program.output_dtypes}
    return {"dtypes": found} if found else {}


def _declared_lengths(program: Program, space: Space) -> dict[str, int | str]:
    """What the spec says of the dimensions that no input has: a number, or an argument."""
    kept = dict.fromkeys(dim for param in program.params for dim in param.dims)
    kept |= dict.fromkeys(dim for buffer in program.buffers for dim in buffer.dims)
    told = {dim for decl in program.inputs for dim in decl.dims}
    found: dict[str, int | str] = {}
    for dim in kept:
        match space[dim].size:
            case Const(value) if dim not in told:
                found[dim] = int(value)
            case Hyper(name) if dim not in told:
                found[dim] = name
    return found


def _dim(space: Space, dim: str) -> str:
    return f"*{dim}" if space[dim].variadic else dim


def _arm(arm: Arm, space: Space) -> dict[str, Any]:
    return {
        "cells": _cells(arm, space),
        "forward": _entry(arm.forward, space),
        "backward": _entry(arm.backward, space),
    }


def _cells(arm: Arm, space: Space) -> list[list[str]]:
    """The whole dimensions that cells of statistics have, in any direction."""
    found = {
        tuple(a for a in cells if "." not in a and "/" not in a)
        for way in (arm.forward, arm.backward)
        for cells in next(iter(way.values())).measured
    }
    return [[_dim(space, axis) for axis in axes] for axes in sorted(found)]


def _entry(kernels: Mapping[str, Kernel], space: Space) -> dict[str, Any]:
    fields = next(iter(kernels.values())).fields
    return {
        "sections": {vector: kernel.section for vector, kernel in kernels.items()},
        "fields": [_field(field, space) for field in fields],
    }


def _field(field: Field, space: Space) -> str:
    dims = [_dim(space, dim) for dim in field.dims]
    return f"{field.kind} {field.name}" + (f" [{', '.join(dims)}]" if dims else "")
