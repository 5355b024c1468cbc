"""`metanorm list`: what there is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import say
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.ir.ops import public
from metanorm.json_document import Document, json_text
from metanorm.passes.pipeline import PIPELINE, TO_KERNELS, optimize
from metanorm.visible import visible
from metanorm.workspace import load_library

WIDE = 1000  # columns, where nobody counts them
Rows = list[dict[str, str]]  # the same columns in each


def _named(rows: Iterable[tuple[str, str]]) -> Rows:
    return [{"name": name, "meaning": meaning} for name, meaning in rows]


def _operations() -> Rows:
    return _named((row.usage, row.meaning) for row in public())


def _errors() -> Rows:
    return _named((code, manual_page(code).title) for code in all_codes())


def _specs() -> Rows:
    from metanorm.explain.kernels import status  # it imports the targets
    from metanorm.explain.origin import citation

    gc.disable()  # nearly all that is made here is needed to the end
    library = load_library()
    checked = frontend.check(library.sources, library.roots)
    return [
        {
            "name": norm.program.name,
            "file": root.removeprefix(frontend.LIBRARY),
            "status": status(optimize(norm.program)),
            "citation": citation(norm.program.doc),
            "meaning": " ".join(norm.program.doc),
        }
        for root in library.roots
        for norm in checked.norms[root]
    ]


def _passes() -> Rows:
    return _named([*((step.name, step.why_here) for step in PIPELINE), *TO_KERNELS.items()])


def _targets() -> Rows:
    return _named(
        [
            ("native", "kernels in C beside a module, for tensors on the CPU in eager mode"),
            ("triton", "kernels in Triton beside a module, for tensors on a GPU in eager mode"),
            ("torch", "plain torch operations, on any device and under torch.compile"),
        ]
    )


TOPICS: dict[str, Callable[[], Rows]] = {
    "operations": _operations,
    "errors": _errors,
    "specs": _specs,
    "passes": _passes,
    "targets": _targets,
}
Topic = Enum("Topic", {name: name for name in TOPICS}, type=str)  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class Listing(Document):
    """What `metanorm list TOPIC --json` prints."""

    topic: str
    rows: tuple[Mapping[str, str], ...]


def command(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List operations, errors, specs and what they run on, passes or targets."""
    rows = TOPICS[topic.value]()
    if json:
        sys.stdout.write(json_text(Listing(topic=topic.value, rows=tuple(rows))))
    elif len(rows[0]) > 2:
        _print_table(rows)
    else:
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            say(f"{row['name'].ljust(width)}  {row['meaning']}\n")


def _print_table(rows: Rows) -> None:
    """All columns but the last, which is for JSON; on one line each where no terminal has ends."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = list(rows[0])[:-1]
    table = Table(*shown, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(visible(row[column])) for column in shown))
    width = None if sys.stdout.isatty() else WIDE
    Console(highlight=False, markup=False, width=width).print(table)
