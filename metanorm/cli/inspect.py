"""`metanorm inspect`: what each stage of the compiler makes of a spec."""

from __future__ import annotations

import json as json_text
import sys
from typing import Annotated

import typer

from metanorm.cli.console import write_diagnostics
from metanorm.cli.context import begin
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.stages import STAGES, stage_json, stage_text
from metanorm.workspace import unknown_name


def command(
    spec: Annotated[str, typer.Argument(help="A spec file, or - for standard input.")],
    stage: Annotated[str, typer.Option(help=f"One of {', '.join(STAGES)}.")] = "ir",
    json: Annotated[bool, typer.Option("--json", help="Print the stage as JSON.")] = False,
) -> None:
    """Print a stage of the compiler: tokens, tree, ast, equations, ir, each pass, code."""
    run = begin()
    if stage not in STAGES:
        raise unknown_name(stage, STAGES, "stage")
    workspace = run.workspace([spec])
    if workspace.diagnostics:
        write_diagnostics(workspace.diagnostics, workspace.sources, sys.stderr)
        raise typer.Exit(FINDINGS)
    show = stage_json if json else stage_text
    result, found = show(workspace.sources, workspace.roots[0], stage)
    write_diagnostics(found, workspace.sources, sys.stderr)
    sys.stdout.write(
        result if isinstance(result, str) else json_text.dumps(result, indent=2) + "\n"
    )
    raise typer.Exit(FINDINGS if any(d.severity.value == "error" for d in found) else OK)
