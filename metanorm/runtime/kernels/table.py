"""What the C file beside a generated module says about its kernels.

Each norm has a table in a comment of that file: the dimensions of its inputs, and for each
kernel its section and the fields of its call. The file is found by the name of the module.
"""

from __future__ import annotations

import json
import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metanorm.runtime.beside import name_beside, text_beside

LINES_OF_HEADER = 3
MARK = re.compile(r"metanorm: abi=\d+ spec=\w+ options=\w+")
TABLE = re.compile(r"/\* metanorm kernels\n(.*?)\*/", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """A field of a call; `dims` are those of a narrow tensor that is written."""

    kind: str
    name: str
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """The kernels of one arm in one direction: a section for each vector axis. They are compiled
    for what the `dtypes` of some tensors are."""

    sections: Mapping[str, str]
    fields: tuple[Field, ...]
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The kernels of one norm.

    `tensors` gives the dimensions of each tensor, a variadic one with a star; `matrices` the axis
    of each matrix that the constructor is given, maybe by name; `divisible` what the length
    of a dimension must be divisible by, numbers and arguments; `lengths` the number or the argument
    that says how long a dimension is that no input has; `tables` the dimension whose rows an index
    chooses; `defaults` the number that stands
    for an input that is left out; `ranks` the argument whose length says how many dimensions a
    variadic one stands for; `sorts` what each input is, `flags` the arguments by which a norm
    chooses, `widths` those that say how many positions a window holds. `dtypes` names the tensor,
    or the dtype of torch, whose dtype an output has that is not as the first input. `results` is
    the type of the result where there are several, and `without_statistics` the arm of evaluation
    where no running statistics are kept.
    """

    tensors: Mapping[str, tuple[str, ...]]
    matrices: Mapping[str, str]
    divisible: Mapping[str, tuple[str | int, ...]]
    lengths: Mapping[str, str | int]
    tables: Mapping[str, str]
    defaults: Mapping[str, float]
    ranks: Mapping[str, str]
    momenta: tuple[str, ...]
    tracked: tuple[str, ...]
    buffers: tuple[str, ...]
    without_statistics: str
    results: str | None
    sorts: Mapping[str, str]
    flags: tuple[str, ...]
    arms: Mapping[str, Mapping[str, Entry]]
    dtypes: Mapping[str, str]
    widths: tuple[str, ...]
    edges: Mapping[str, str]  # the dimension of the nodes of each edge list
    cells: Mapping[str, tuple[tuple[str, ...], ...]]  # dimensions of the statistics of each arm


def source_of(module_file: str) -> str:
    """The text of the C file that belongs to a module; empty where there is none."""
    try:
        return text_beside(name_beside(module_file, ".c"))
    except (OSError, UnicodeDecodeError):
        return ""


def belong_together(module_file: str, source: str) -> bool:
    """Whether a module and the C file beside it were made from one spec with the same options, as
    far as their headers say; that of a module that was installed without its text says nothing."""
    own = MARK.search("".join(linecache.getlines(module_file)[:LINES_OF_HEADER]))
    other = MARK.search(source)
    return own is None or (other is not None and own[0] == other[0])


def tables(source: str) -> dict[str, Table]:
    """The tables of a C file, by the name of the function that they belong to."""
    found: dict[str, Table] = {}
    for match in TABLE.finditer(source):
        data = json.loads(match[1])
        found[data["function"]] = parsed(data)
    return found


def parsed(data: Mapping[str, Any]) -> Table:
    """A table that was plain data."""
    return Table(
        tensors={name: tuple(dims) for name, dims in data["tensors"].items()},
        matrices=data["matrices"],
        divisible={dim: tuple(by) for dim, by in data["divisible"].items()},
        lengths=data.get("lengths", {}),
        tables=data.get("tables", {}),
        defaults=data["defaults"],
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
        arms={
            arm: {way: _entry(entry) for way, entry in ways.items() if way != "cells"}
            for arm, ways in data["arms"].items()
        },
        cells={
            arm: tuple(tuple(dim.lstrip("*") for dim in dims) for dims in ways["cells"])
            for arm, ways in data["arms"].items()
        },
    )


def _entry(data: Mapping[str, Any]) -> Entry:
    fields = tuple(_field(text) for text in data["fields"])
    return Entry(data["sections"], fields, tuple(data.get("dtypes", ())))


def _field(text: str) -> Field:
    """`narrow to.mean [N, *S]`."""
    kind, name, *dims = text.split(" ", 2)
    return Field(kind, name, tuple(dims[0].strip("[]").split(", ")) if dims else ())
