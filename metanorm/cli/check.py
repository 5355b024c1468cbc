"""`metanorm check`: prints all diagnostics, and applies fixes."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
from typing import Annotated, TextIO

import typer

from metanorm.cli.console import print_file, write_diagnostics, write_diff, write_summary
from metanorm.cli.context import Run, start_run
from metanorm.cli.exit_codes import FINDINGS, OK, code_of
from metanorm.cli.rewriting import rewrite_each
from metanorm.cli.watch import run_on_changes
from metanorm.diagnostics.render.formats import RENDERERS
from metanorm.findings import Findings, FixResult, apply_fixes, findings
from metanorm.source import Source
from metanorm.workspace import STDIN, WorkspaceError


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
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Write the safe fixes into the specs, and report what is left."),
    ] = False,
    unsafe_fixes: Annotated[
        bool,
        typer.Option(
            "--unsafe-fixes",
            help="With --fix or --diff: take guesses too, such as the nearest name.",
        ),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what --fix would change.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Check again whenever a spec changes, until ctrl-C.")
    ] = False,
) -> None:
    """Report every error and warning. Writes nothing without --fix, and needs no torch."""
    paths = specs or []
    if unsafe_fixes and not (fix or diff):
        raise WorkspaceError("--unsafe-fixes says which fixes to make: it needs --fix or --diff")
    if fix and STDIN in paths and paths != [STDIN]:
        raise WorkspaceError("with --fix, standard input is fixed alone: name no other specs")
    check = partial(_check_once, paths, format, fix, unsafe_fixes, diff)
    if watch:
        run_on_changes(paths, check)
    else:
        check()


def _check_once(
    paths: list[str], format: Format, fix: bool, unsafe_fixes: bool, diff: bool
) -> None:
    """Check once. Raises `typer.Exit` at the end."""
    run = start_run()
    stdin = run.standard_input(paths)
    before = findings(run.workspace(paths, stdin))
    if not (fix or diff):
        _print_findings(before, format, run, sys.stdout)
        raise typer.Exit(code_of(before.diagnostics))
    result = apply_fixes(before, partial(run.workspace, paths, stdin), unsafe_fixes)
    if diff:
        _print_diff(before, result)
        _print_findings(result.findings, format, run, sys.stderr)  # the diff may go to a file
        raise typer.Exit(code_of(result.findings.diagnostics) or (FINDINGS if result.texts else OK))
    if paths == [STDIN]:
        ((name, text),) = before.workspace.texts.items() or (("", ""),)
        print_file(result.texts.get(name, text))
        _print_findings(result.findings, format, run, sys.stderr)
    else:
        rewrite_each(before.workspace.texts, result.texts, partial(_fix_count_text, result))
        _print_findings(result.findings, format, run, sys.stdout)
    raise typer.Exit(code_of(result.findings.diagnostics))


def _print_findings(result: Findings, format: Format, run: Run, stream: TextIO) -> None:
    """Print diagnostics; as text, also the number of fixes."""
    diagnostics, workspace = result.diagnostics, result.workspace
    if format is not Format.text:
        stream.write(RENDERERS[format.value](diagnostics, workspace.sources))
        return
    write_diagnostics(diagnostics, workspace.sources, stream)
    count = len(workspace.roots) + len(workspace.diagnostics)
    write_summary(diagnostics, count, run.milliseconds, stream)
    safe, every = (sum(map(len, result.fixes(unsafe).values())) for unsafe in (False, True))
    if safe:
        stream.write(f"{safe} can be fixed: metanorm check --fix\n")
    if every > safe:
        more = f"{every - safe} more" if safe else f"{every}"
        stream.write(f"{more} can be fixed by a guess: metanorm check --fix --unsafe-fixes\n")


def _print_diff(before: Findings, result: FixResult) -> None:
    """Print the changes that the fixes would make."""
    for name, text in result.texts.items():
        old, new = before.workspace.sources[name].text, Source.of(name, text).text
        write_diff(old, new, name, "as it is", sys.stdout)


def _fix_count_text(result: FixResult, name: str) -> str:
    count = result.counts[name]
    return f"{count} fix{'es' if count > 1 else ''} written"
