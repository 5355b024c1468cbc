"""`metanorm show`: draws what a norm pools."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import Failure, print_status, write_diagnostics, write_summary
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS
from metanorm.cli.file_names import demand_ending
from metanorm.ir.program import Program
from metanorm.show.example import CannotDraw
from metanorm.show.picture import picture
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.workspace import STDIN, WorkspaceError, unknown_name, write_bytes

SVG, PNG = ".svg", ".png"
MAX_NAMES = 12


def command(
    spec: Annotated[str, typer.Argument(help="A spec file, or - for standard input.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="An .svg or .png file; - prints the SVG."),
    ] = STDIN,
    norm: Annotated[str, typer.Option(help="Which norm, where the file has several.")] = "",
) -> None:
    """Draw what a norm pools: its elements, its graphs and its matrices, on a small example."""
    run = start_run()
    suffix = SVG if output == STDIN else demand_ending(Path(output), "a picture", SVG, PNG)
    if suffix == PNG and find_spec("matplotlib") is None:
        raise WorkspaceError(
            "a PNG needs matplotlib: pip install 'metanorm[demo]'; an SVG does without"
        )
    workspace = run.workspace([spec])
    checked = frontend.check(workspace.sources, workspace.roots)
    if not checked.ok or workspace.diagnostics:
        diagnostics = (*workspace.diagnostics, *checked.diagnostics)
        write_diagnostics(diagnostics, workspace.sources, sys.stderr)
        write_summary(diagnostics, 1, run.milliseconds, sys.stderr)
        raise typer.Exit(FINDINGS)
    programs = [norm.program for root in workspace.roots for norm in checked.norms[root]]
    data = _picture_bytes(_select_program(programs, norm, spec), suffix)
    if output == STDIN:
        sys.stdout.write(data.decode())
        return
    write_bytes(Path(output), data)
    print_status(f"{output}: written")


def _select_program(programs: list[Program], name: str, spec: str) -> Program:
    names = [program.name for program in programs]
    if name and name not in names:
        raise unknown_name(name, names, "norm")
    if not name and len(names) > 1:
        more = ", ..." if len(names) > MAX_NAMES else ""
        listed = f"{len(names)} norms: {', '.join(names[:MAX_NAMES])}{more}"
        raise WorkspaceError(f"{spec} has {listed}; choose one with --norm")
    return programs[names.index(name) if name else 0]


def _picture_bytes(program: Program, suffix: str) -> bytes:
    try:
        drawing = picture(program)
    except CannotDraw as reason:
        raise Failure(f"there is no small example of {program.name} to draw: {reason}") from reason
    if suffix == PNG:
        from metanorm.show.png_from_drawing import png_from_drawing

        return png_from_drawing(drawing)
    return svg_from_drawing(drawing).encode()
