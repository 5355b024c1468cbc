"""`metanorm inspect`: prints the output of a stage of the compiler."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from metanorm.cli.console import print_result, write_diagnostics
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.json import CheckReport, report_fields
from metanorm.ir.program import Program
from metanorm.json_document import json_text
from metanorm.show.shapes import Drawing
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.stages import DRAWN, STAGES, stage_data, stage_drawings, stage_text
from metanorm.syntax.ast import File
from metanorm.workspace import WorkspaceError, unknown_name

Format = Literal["text", "json", "svg"]


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
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="`svg` draws the program before and after a pass, in a file with one norm, or of "
            "the one that --norm names.",
        ),
    ] = "text",
    norm: Annotated[str, typer.Option(help="Which norm to draw.")] = "",
) -> None:
    """Print a stage of the compiler: tokens, tree, ast, equations, ir, each pass, code."""
    run = start_run()
    if stage not in STAGES:
        raise unknown_name(stage, tuple(STAGES), "stage")
    as_json = json or format == "json"
    if format == "svg" and stage not in DRAWN:
        raise WorkspaceError(f"--format svg draws {', '.join(DRAWN)}, and not {stage}")
    workspace = run.workspace([spec])
    diagnostics = workspace.diagnostics
    parts: dict[str, object] = {}
    if not diagnostics and format == "svg":
        drawings, diagnostics = stage_drawings(workspace.sources, workspace.roots[0], stage)
        parts = {"text": _svg(drawings, norm, spec)} if drawings else {}
    elif not diagnostics and as_json:
        parts, diagnostics = stage_data(workspace.sources, workspace.roots[0], stage)
    elif not diagnostics:
        text, diagnostics = stage_text(workspace.sources, workspace.roots[0], stage)
        parts = {"text": text}
    if as_json:
        fields = report_fields(diagnostics, workspace.sources) | parts
        sys.stdout.write(json_text(Inspection(stage=stage, **fields)))
    else:
        write_diagnostics(diagnostics, workspace.sources, sys.stderr)
        print_result(str(parts.get("text", "")))
    raise typer.Exit(FINDINGS if any(d.severity is Severity.ERROR for d in diagnostics) else OK)


def _svg(drawings: Sequence[Drawing], name: str, spec: str) -> str:
    """The drawing of one norm."""
    titles = [drawing.title.split(",")[0] for drawing in drawings]
    if name and name not in titles:
        raise unknown_name(name, titles, "norm")
    if not name and len(titles) > 1:
        raise WorkspaceError(f"{spec} has {len(titles)} norms; choose one with --norm")
    return svg_from_drawing(drawings[titles.index(name) if name else 0])
