"""The table by which the runtime finds and calls the kernels of a norm, for every target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.flags import choosing_flags
from metanorm.ir.program import Program
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf
from metanorm.ir.space import Space
from metanorm.nest.arguments import Field, window_widths
from metanorm.nest.kernels import NormKernels, Variant
from metanorm.nest.nest import Nest
from metanorm.nest.nest_from_plan import EXTERNAL_OPS
from metanorm.passes.variants import without_statistics

TABLE_WIDTH = 200  # of a table on one line

# From the function of a norm and one of its nests to the name of the kernel in the file.
KernelNaming = Callable[[str, Nest], str]


@dataclass(frozen=True)
class PrintedNorm:
    """A norm whose kernels are printed.

    `function` is its function in the module, `result` the class of several results.
    """

    function: str
    kernels: NormKernels
    result: str | None


def table_text(table: Mapping[str, Any]) -> str:
    """A table as JSON. What fits stands on one line, and lists do in any case."""
    return "{\n" + ",\n".join(_entries(table, " ")) + "\n}"


def _entries(table: Mapping[str, Any], margin: str) -> list[str]:
    """The entries of a table, each with its line or lines."""
    return [f"{margin}{json.dumps(key)}: {_value(value, margin)}" for key, value in table.items()]


def _value(value: Any, margin: str) -> str:
    """A value as JSON, behind its key."""
    line = json.dumps(value)
    if not isinstance(value, dict) or len(line) <= TABLE_WIDTH:
        return line
    return "{\n" + ",\n".join(_entries(value, margin + " ")) + f"\n{margin}}}"


def kernel_table(norm: PrintedNorm, named: KernelNaming) -> dict[str, Any]:
    """The table of the kernels of a norm, as JSON data."""
    function, kernels, program = norm.function, norm.kernels, norm.kernels.program
    space = program.index.space
    sizes = {axis: a.name for a in program.arguments if a.type == "size" for axis in a.axes}
    dims = dict.fromkeys(dim for d in program.declarations for dim in d.dims)
    matrices = [a for a in program.arguments if a.type == "matrix"]
    edges = {i.name: i.dims[0] for i in program.inputs if i.sort == "edges"}
    variadic = [dim for dim in dims if space[dim].variadic]
    drawn = [i.name for i in program.drawn_inputs]
    return {
        "function": function,
        "tensors": {
            d.name: _edge_dims(d.name) if d.name in edges
            else [_dim_text(space, dim) for dim in d.dims]
            for d in program.declarations
        } | {a.name: list(a.axes) for a in matrices},
        "matrices": {a.name: a.axes[0] for a in matrices},
        "divisible": {dim: list(by) for dim, by in kernels.divisors},
        "lengths": _declared_lengths(program, space),
        "defaults": {
            i.name: i.default for i in program.inputs if isinstance(i.default, (int, float))
        },
        "ranks": {dim: sizes[dim] for dim in variadic if dim in sizes},
        "momenta": sorted(
            {f.name for variant in kernels.variants for k in variant.forward.values()
             for f in k.fields if f.kind == "momentum"}
        ),
        "tracked": [b.name for b in program.buffers if b.tracked],
        "buffers": [b.name for b in program.buffers],
        "without_statistics": without_statistics(program),
        "flags": choosing_flags(program),
        "results": norm.result,
        **_dtypes(program),
        **_tables(program),
        **_widths(program),
        **_runs(program),
        **_computed_lengths(kernels, space),
        **({"edges": edges} if edges else {}),
        **({"drawn": drawn} if drawn else {}),
        "sorts": {i.name: i.sort for i in program.inputs if i.sort != "tensor"}
        | {a.name: "matrix" for a in matrices},
        "variants": {v.name: _variant_table(function, v, space, named) for v in kernels.variants},
    }  # fmt: skip


def _edge_dims(name: str) -> list[str]:
    """The dimensions of an edge list `[2, E]`: its two ends, and its edges."""
    return [f"{name}.ends", f"{name}.edges"]


def _dtypes(program: Program) -> dict[str, Any]:
    """The dtype of each output that differs from the first input: that of a tensor, or a name."""
    dtypes_by_output = {
        n: d.name if d.like else f"torch.{d.name}" for n, d in program.output_dtypes
    }
    return {"dtypes": dtypes_by_output} if dtypes_by_output else {}


def _tables(program: Program) -> dict[str, Any]:
    """For each index input that chooses rows of tables, the dimension of these rows, or for a
    permutation, the dimension that it orders."""
    row_dims = {
        i.name: i.dims[0] if i.drawn is not None else i.table
        for i in program.inputs
        if i.sort == "index" and i.table is not None
    }
    return {"tables": row_dims} if row_dims else {}


def _widths(program: Program) -> dict[str, Any]:
    """The constructor arguments that set the widths of windows."""
    width_arguments = dict.fromkeys(window_widths(program))
    return {"widths": [*width_arguments]} if width_arguments else {}


def _runs(program: Program) -> dict[str, Any]:
    """For each run of positions: its axis, the position where it starts, and its length."""
    runs: dict[str, Any] = {}
    for axis in program.axes:
        if axis.piece_of is not None and axis.size is not None:
            whole, start = axis.piece_of
            runs[axis.name] = [whole, scalar_as_json(start), scalar_as_json(axis.size)]
    return {"runs": runs} if runs else {}


def _computed_lengths(kernels: NormKernels, space: Space) -> dict[str, Any]:
    """The lengths of those dimensions of results that no tensor has: of parts and of cells."""
    program = kernels.program
    tensor_dims = {dim for decl in program.declarations for dim in decl.dims}
    result_dims = {
        dim
        for variant in kernels.variants
        for nest in (*variant.forward.values(), *variant.backward.values())
        for field in nest.fields
        if field.name.startswith("to.")
        for dim in field.dims
    }
    lengths = {
        dim: _computed_length(dim, tensor_dims, space) for dim in sorted(result_dims - tensor_dims)
    }
    known = {dim: length for dim, length in lengths.items() if length is not None}
    return {"computed": known} if known else {}


def _computed_length(dim: str, tensor_dims: set[str], space: Space) -> Any:
    """The length of a part of an axis, or the name of the number of groups; `None` for others."""
    axis = space[dim]
    if axis.cells_of is not None:
        grouping = axis.cells_of[1]
        return f"{grouping.index}.count" if isinstance(grouping, ByIndex) else None
    if axis.size is None or axis.variadic:
        return None

    def readable(scalar: Scalar) -> Scalar:
        match scalar:
            case SizeOf(other) if other not in tensor_dims and (size := space[other].size):
                return readable(size)
            case Apply(function, arguments):
                return Apply(function, tuple(map(readable, arguments)))
            case _:
                return scalar

    return scalar_as_json(readable(axis.size))


def scalar_as_json(scalar: Scalar) -> Any:
    """A scalar as JSON: a number, the name of an argument, or a function and its arguments."""
    match scalar:
        case Const(value):
            return value
        case Hyper(name):
            return name
        case SizeOf(axis):
            return ["size", axis]
        case Apply(function, arguments):
            return [function, *map(scalar_as_json, arguments)]


def _declared_lengths(program: Program, space: Space) -> dict[str, int | str]:
    """The declared length of each dimension that no input has: a number, or an argument's name."""
    state_dims = dict.fromkeys(dim for param in program.params for dim in param.dims)
    state_dims |= dict.fromkeys(dim for buffer in program.buffers for dim in buffer.dims)
    input_dims = {dim for decl in program.inputs for dim in decl.dims}
    lengths: dict[str, int | str] = {}
    for dim in state_dims:
        match space[dim].size:
            case Const(value) if dim not in input_dims:
                lengths[dim] = int(value)
            case Hyper(name) if dim not in input_dims:
                lengths[dim] = name
    return lengths


def _dim_text(space: Space, dim: str) -> str:
    return f"*{dim}" if space[dim].variadic else dim


def _variant_table(
    function: str, variant: Variant, space: Space, named: KernelNaming
) -> dict[str, Any]:
    def entry(kernels: Mapping[str, Nest]) -> dict[str, Any]:
        first = next(iter(kernels.values()))
        dtypes = {"dtypes": list(first.followed_dtypes)} if first.followed_dtypes else {}
        return {
            "sections": {vector: named(function, kernel) for vector, kernel in kernels.items()},
            "fields": [_field_text(field, space) for field in first.fields],
            **dtypes,
        }

    through = _read_through_statistics(variant)
    return {
        "cells": _statistic_cells(variant, space),
        "forward": entry(variant.forward),
        "backward": entry(variant.backward) | ({"through": through} if through else {}),
    }


def _read_through_statistics(variant: Variant) -> list[str]:
    """The tensors that the backward kernel knows by the saved statistics alone.

    Gradients depend on them all the same, so gradients of gradients need them.
    """
    forward, backward = (next(iter(d.values())) for d in (variant.forward, variant.backward))
    program = forward.program
    behind = program.index.closure(ref for name, ref in program.outputs if name in forward.kept)
    read = {field.name for field in backward.fields}
    names = {op.name for ref in behind if isinstance(op := program.index.ops[ref], EXTERNAL_OPS)}
    return [d.name for d in program.declarations if d.name in names - read]


def _statistic_cells(variant: Variant, space: Space) -> list[list[str]]:
    """The unsplit dimensions of the cells of statistics, in either direction."""
    nests = (next(iter(d.values())) for d in (variant.forward, variant.backward))
    cells_of_directions = {
        tuple(a for a in nest.program.index.space.unsplit(r.cells) if "." not in a and "/" not in a)
        for nest in nests
        for r in nest.reductions
    }
    return [[_dim_text(space, axis) for axis in axes] for axes in sorted(cells_of_directions)]


def _field_text(field: Field, space: Space) -> str:
    dims = [_dim_text(space, dim) for dim in field.dims]
    return f"{field.kind} {field.name}" + (f" [{', '.join(dims)}]" if dims else "")
