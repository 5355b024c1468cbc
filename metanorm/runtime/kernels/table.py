"""The tables of kernels in the C file beside a generated module.

Each norm has a table, as JSON in a comment of that file: the dimensions of its inputs and, for each
kernel, its section and the fields of its call. The file is found by the name of the module.
"""

from __future__ import annotations

import json
import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metanorm.runtime.beside import name_beside, text_beside
from metanorm.runtime.kernels.scalars import Scalar

LINES_OF_HEADER = 3
HEADER = re.compile(r"metanorm: abi=\d+ spec=\w+ options=\w+")
TABLE_COMMENT = re.compile(r"/\* metanorm kernels\n(.*?)\*/", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """A field of a call; `dims` are the dimensions of a narrow result."""

    kind: str
    name: str
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelEntry:
    """The kernels of one variant in one direction: a section of the file for each vector dimension.

    They are compiled for the dtypes of the tensors that `dtypes` names. A backward kernel knows the
    tensors in `through` by the statistics that the forward kernel saved.
    """

    sections: Mapping[str, str]
    fields: tuple[Field, ...]
    dtypes: tuple[str, ...] = ()
    through: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The kernels of one norm, and what they ask of its arguments."""

    tensors: Mapping[str, tuple[str, ...]]  # the dimensions of each tensor, a variadic one as `*S`
    matrices: Mapping[str, str]  # the axis of each matrix that the constructor is given
    divisible: Mapping[str, tuple[str | int, ...]]  # the factors of a length: numbers, arguments
    lengths: Mapping[str, str | int]  # of dimensions that no input has: numbers, arguments
    tables: Mapping[str, str]  # the dimension whose rows an index chooses, by index
    defaults: Mapping[str, float]  # what stands for an input that is absent
    drawn: tuple[str, ...]  # random numbers, of which there are none in evaluation
    ranks: Mapping[str, str]  # the shape argument of a variadic dimension
    momenta: tuple[str, ...]  # arguments
    tracked: tuple[str, ...]  # running statistics
    buffers: tuple[str, ...]
    without_statistics: str  # the variant of evaluation without running statistics
    results: str | None  # the class of several outputs
    sorts: Mapping[str, str]  # `tensor`, `mask`, `index`, ... by input
    flags: tuple[str, ...]  # arguments that choose a variant
    variants: Mapping[str, Mapping[str, KernelEntry]]  # by direction
    dtypes: Mapping[str, str]  # of an output: a tensor that has the same, or a dtype of torch
    widths: tuple[str, ...]  # arguments: how many positions a window holds
    edges: Mapping[str, str]  # the dimension of the nodes of each edge list
    cells: Mapping[str, tuple[tuple[str, ...], ...]]  # dimensions of the statistics, by variant
    runs: Mapping[str, tuple[str, Scalar, Scalar]]  # of a dimension: its name, start and length
    computed: Mapping[str, Scalar]  # lengths of dimensions of results that no tensor has


def kernel_source(module_file: str) -> str:
    """The text of the C file beside a module; empty if there is none."""
    try:
        return text_beside(name_beside(module_file, ".c"))
    except (OSError, UnicodeDecodeError):
        return ""


def headers_match(module_file: str, source: str) -> bool:
    """Whether the headers of a module and of its C file name one spec and the same options.

    A module that was installed without its text has no header, and is trusted.
    """
    module_header = HEADER.search("".join(linecache.getlines(module_file)[:LINES_OF_HEADER]))
    source_header = HEADER.search(source)
    if module_header is None:
        return True
    return source_header is not None and module_header[0] == source_header[0]


def parse_tables(source: str) -> dict[str, Table]:
    """The tables of a C file, by the name of the function of each norm."""
    tables_by_function: dict[str, Table] = {}
    for match in TABLE_COMMENT.finditer(source):
        data = json.loads(match[1])
        tables_by_function[data["function"]] = table_from_data(data)
    return tables_by_function


def table_from_data(data: Mapping[str, Any]) -> Table:
    """A table from JSON data, whose keys are those of `metanorm.targets.kernel_table`."""
    return Table(
        tensors={name: tuple(dims) for name, dims in data["tensors"].items()},
        matrices=data["matrices"],
        divisible={dim: tuple(by) for dim, by in data["divisible"].items()},
        lengths=data.get("lengths", {}),
        tables=data.get("tables", {}),
        defaults=data["defaults"],
        drawn=tuple(data.get("drawn", ())),
        ranks=data["ranks"],
        momenta=tuple(data["momenta"]),
        tracked=tuple(data["tracked"]),
        buffers=tuple(data["buffers"]),
        without_statistics=data["without_statistics"],
        results=data["results"],
        sorts=data.get("sorts", {}),
        flags=tuple(data.get("flags", ())),
        dtypes=data.get("dtypes", {}),
        widths=tuple(data.get("widths", ())),
        edges=data.get("edges", {}),
        runs={run: tuple(place) for run, place in data.get("runs", {}).items()},
        computed=data.get("computed", {}),
        variants={
            variant: {
                direction: _entry_from_data(entry)
                for direction, entry in kernels.items()
                if direction != "cells"
            }
            for variant, kernels in data["variants"].items()
        },
        cells={
            variant: tuple(tuple(dim.lstrip("*") for dim in dims) for dims in kernels["cells"])
            for variant, kernels in data["variants"].items()
        },
    )


def _entry_from_data(data: Mapping[str, Any]) -> KernelEntry:
    fields = tuple(_field_from_text(text) for text in data["fields"])
    dtypes, through = (tuple(data.get(key, ())) for key in ("dtypes", "through"))
    return KernelEntry(data["sections"], fields, dtypes, through)


def _field_from_text(text: str) -> Field:
    """A field from its text, such as `narrow to.mean [N, *S]`."""
    kind, name, *dims = text.split(" ", 2)
    return Field(kind, name, tuple(dims[0].strip("[]").split(", ")) if dims else ())
