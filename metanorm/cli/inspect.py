"""`metanorm inspect`: prints the output of a stage of the compiler."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from metanorm.cli.console import print_result, write_diagnostics
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.json import CheckReport, report_fields
from metanorm.ir.nodes import Program
from metanorm.json_document import json_text
from metanorm.stages import STAGES, stage_data, stage_text
from metanorm.syntax.ast import File
from metanorm.workspace import unknown_name


@dataclass(frozen=True, kw_only=True)
class Inspection(CheckReport):
    """What `metanorm inspect --json` prints: a tree, programs, or a stage that is text."""

    stage: str
    ast: File | None = None
    programs: tuple[Program, ...] | None = None
    text: str | None = None


def command(
    spec: Annotated[str, typer.Argument(help="A spec file, or - for standard input.")],
    stage: Annotated[str, typer.Option(help=f"One of {', '.join(STAGES)}.")] = "ir",
    json: Annotated[bool, typer.Option("--json", help="Print the stage as JSON.")] = False,
) -> None:
    """Print a stage of the compiler: tokens, tree, ast, equations, ir, each pass, code."""
    run = start_run()
    if stage not in STAGES:
        raise unknown_name(stage, STAGES, "stage")
    workspace = run.workspace([spec])
    diagnostics = workspace.diagnostics
    parts: dict[str, object] = {}
    if not diagnostics and json:
        parts, diagnostics = stage_data(workspace.sources, workspace.roots[0], stage)
    elif not diagnostics:
        text, diagnostics = stage_text(workspace.sources, workspace.roots[0], stage)
        parts = {"text": text}
    if json:
        fields = report_fields(diagnostics, workspace.sources) | parts
        sys.stdout.write(json_text(Inspection(stage=stage, **fields)))
    else:
        write_diagnostics(diagnostics, workspace.sources, sys.stderr)
        print_result(str(parts.get("text", "")))
    raise typer.Exit(FINDINGS if any(d.severity is Severity.ERROR for d in diagnostics) else OK)
