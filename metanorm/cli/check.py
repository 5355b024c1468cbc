"""`metanorm check`: all diagnostics, nothing written."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import write_diagnostics, write_summary
from metanorm.cli.context import begin
from metanorm.cli.exit_codes import code_of
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.render.formats import RENDERERS
from metanorm.module_names import naming_problems_by_folder


class Format(str, Enum):
    """How diagnostics are printed."""

    text = "text"
    json = "json"
    github = "github"
    sarif = "sarif"


def command(
    specs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, or - for standard input.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print what is found.")] = Format.text,
) -> None:
    """Report every error and warning. Writes nothing, and needs no torch."""
    run = begin()
    workspace = run.workspace(specs or [])
    checked = frontend.check(workspace.sources, workspace.roots)
    names = Collector()
    for clash in naming_problems_by_folder(workspace.sources, workspace.roots, checked.norms):
        names.add(clash)
    found = (*workspace.diagnostics, *checked.diagnostics, *names.sorted())
    if format is Format.text:
        write_diagnostics(found, workspace.sources, sys.stdout)
        count = len(workspace.roots) + len(workspace.diagnostics)
        write_summary(found, count, run.milliseconds, sys.stdout)
    else:
        sys.stdout.write(RENDERERS[format.value](found, workspace.sources))
    raise typer.Exit(code_of(found))
