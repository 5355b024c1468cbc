"""`metanorm fmt`: the one layout of specs."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import complain, write_diagnostics, write_diff
from metanorm.cli.context import begin
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.workspace import STDIN, Output, write


def command(
    specs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, or - for standard input.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is not formatted.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change.")
    ] = False,
) -> None:
    """Format specs in place. Comments stay, and a file with errors is left as it is."""
    run = begin()
    workspace = run.workspace(specs or [])
    write_diagnostics(workspace.diagnostics, workspace.sources, sys.stderr)
    failed = bool(workspace.diagnostics)
    changed: list[Output] = []
    for name in workspace.roots:
        source = workspace.sources[name]
        text, problems = frontend.format_spec(source)
        if problems:
            failed = True
            complain(f"{name} has syntax errors and was left as it is: see `metanorm check {name}`")
        elif specs == [STDIN] and not (check or diff):
            sys.stdout.write(text)
        elif text != source.text or _has_odd_line_ends(name):
            changed.append(Output(Path(name), text, source.text, "differs"))
    for output in changed:
        if diff:
            before, after = (
                t.splitlines(keepends=True) for t in (output.before or "", output.text)
            )
            name = output.path.as_posix()
            write_diff(difflib.unified_diff(before, after, f"{name} (as it is)", name), sys.stdout)
        elif check:
            sys.stdout.write(f"{output.path}: not formatted\n")
    if not (check or diff):
        write(changed)
        for output in changed:
            sys.stderr.write(f"{output.path}: formatted\n")
    unformatted = bool(changed) and (check or diff)
    raise typer.Exit(FINDINGS if failed or unformatted else OK)


def _has_odd_line_ends(name: str) -> bool:
    """Carriage returns and byte order marks are gone from the source's text already."""
    try:
        data = Path(name).read_bytes()
    except OSError:
        return False
    return b"\r" in data or data.startswith(b"\xef\xbb\xbf")
