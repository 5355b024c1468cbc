"""`metanorm list`: what there is."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Callable
from enum import Enum
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.ir.ops import public
from metanorm.passes.pipeline import PIPELINE, TO_KERNELS
from metanorm.workspace import load_library

Rows = list[tuple[str, str]]


def _operations() -> Rows:
    return [(row.usage, row.meaning) for row in public()]


def _errors() -> Rows:
    return [(code, manual_page(code).title) for code in all_codes()]


def _specs() -> Rows:
    library = load_library()
    checked = frontend.check(library.sources, library.roots)
    return [
        (norm.program.name, " ".join(norm.program.doc))
        for root in library.roots
        for norm in checked.norms[root]
    ]


def _passes() -> Rows:
    return [*((step.name, step.why_here) for step in PIPELINE), *TO_KERNELS.items()]


def _targets() -> Rows:
    return [
        ("native", "and beside them kernels in C, for the CPU in eager mode"),
        ("torch", "plain torch operations, on any device and under torch.compile"),
    ]


TOPICS: dict[str, Callable[[], Rows]] = {
    "operations": _operations,
    "errors": _errors,
    "specs": _specs,
    "passes": _passes,
    "targets": _targets,
}
Topic = Enum("Topic", {name: name for name in TOPICS}, type=str)  # type: ignore[misc]


def command(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List operations, errors, specs, passes or targets."""
    rows = TOPICS[topic.value]()
    if json:
        data = [{"name": name, "meaning": meaning} for name, meaning in rows]
        sys.stdout.write(json_text.dumps(data, indent=2) + "\n")
        return
    width = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        sys.stdout.write(f"{name.ljust(width)}  {meaning}\n")
