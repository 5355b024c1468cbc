"""`metanorm list`: prints tables of operations, errors, specs, passes and targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from metanorm.cli.console import print_result
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.explain.listing import shipped_listing
from metanorm.ir.ops import public
from metanorm.json_document import Document, json_text
from metanorm.visible import visible

WIDTH_OF_A_PIPE = 1000  # columns: no line breaks
Rows = list[dict[str, str]]  # the same columns in each


def _rows(rows: Iterable[tuple[str, str]]) -> Rows:
    return [{"name": name, "meaning": meaning} for name, meaning in rows]


def _operations() -> Rows:
    return _rows((row.usage, row.meaning) for row in public())


def _errors() -> Rows:
    return _rows((code, manual_page(code).title) for code in all_codes())


def _specs() -> Rows:
    rows = shipped_listing()
    if rows is None:
        from metanorm.explain.library import compiled_listing  # it imports the whole compiler

        rows = compiled_listing()
    return rows


def _passes() -> Rows:
    from metanorm.passes.pipeline import reasons  # it imports all passes

    return _rows(reasons().items())


def _targets() -> Rows:
    from metanorm.targets.registry import TARGET_DESCRIPTIONS

    return _rows(TARGET_DESCRIPTIONS.items())


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
            print_result(f"{row['name'].ljust(width)}  {row['meaning']}\n")


def _print_table(rows: Rows) -> None:
    """Print all columns but the last, which only JSON has. A pipe gets one line for each row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = list(rows[0])[:-1]
    table = Table(*shown, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(visible(row[column])) for column in shown))
    width = None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    Console(highlight=False, markup=False, width=width).print(table)
