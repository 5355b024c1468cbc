"""`metanorm fmt`: formats specs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import (
    print_error,
    print_file,
    print_result,
    write_diagnostics,
    write_diff,
)
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, INTERNAL, OK, code_of
from metanorm.cli.rewriting import rewrite_each
from metanorm.visible import visible
from metanorm.workspace import STDIN


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
    run = start_run()
    workspace = run.workspace(specs or [])
    write_diagnostics(workspace.diagnostics, workspace.sources, sys.stderr)
    failed, internal_code = bool(workspace.diagnostics), OK
    changed: dict[str, str] = {}
    for name in workspace.roots:
        source = workspace.sources[name]
        text, problems = frontend.format_spec(source)
        if code_of(problems) == INTERNAL:
            internal_code = INTERNAL
            write_diagnostics(problems, workspace.sources, sys.stderr)
        elif problems:
            failed = True
            print_error(
                f"{name} has syntax errors and was left as it is: see `metanorm check {name}`"
            )
        elif specs == [STDIN] and not (check or diff):
            print_file(text)
        elif text != workspace.texts[name]:
            changed[name] = text
    for name, text in changed.items():
        if diff:
            write_diff(workspace.sources[name].text, text, name, "as it is", sys.stdout)
        elif check:
            print_result(f"{visible(name)}: not formatted\n")
    if not (check or diff):
        rewrite_each(workspace.texts, changed, lambda _: "formatted")
    unformatted = bool(changed) and (check or diff)
    raise typer.Exit(internal_code or (FINDINGS if failed or unformatted else OK))
