"""`metanorm explain`: an error code, an operation, or a spec, in words."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import write_diagnostics, write_summary
from metanorm.cli.context import Run, begin
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.ir.ops import Operation, operations, public
from metanorm.workspace import load_library, unknown_name


def command(
    thing: Annotated[
        str, typer.Argument(help="A code (MN0302), an operation (var), or a spec file.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Facts about a spec as JSON.")] = False,
) -> None:
    """Say what an error means, what an operation computes, or how a spec is understood."""
    run = begin()
    code = thing.upper()
    if code in all_codes():
        sys.stdout.write(manual_page(code).markdown)
    elif operations(thing):
        sys.stdout.write("\n".join(operation_text(row) for row in operations(thing)))
    elif thing.endswith(".norm") or "/" in thing or thing == "-":
        _explain_spec(thing, run, json)
    else:
        known = (*all_codes(), *(row.name for row in public()))
        raise unknown_name(thing, known, "code, operation or spec file")


def operation_text(row: Operation) -> str:
    """An operation as `explain` prints it."""
    return f"{row.usage}\n    {row.group}\n    {row.meaning}\n"


def _explain_spec(path: str, run: Run, as_json: bool) -> None:
    from metanorm.explain.facts import facts
    from metanorm.explain.known import known_norms
    from metanorm.explain.words import in_words

    workspace = run.workspace([path])
    checked = frontend.check(workspace.sources, workspace.roots)
    found = (*workspace.diagnostics, *checked.diagnostics)
    norms = [norm for root in workspace.roots for norm in checked.norms[root]]
    library = known_norms(load_library()) if norms else {}
    for position, norm in enumerate(norms):
        answer = facts(norm, library)
        if as_json:
            sys.stdout.write(answer.model_dump_json(indent=2) + "\n")
            continue
        sys.stdout.write("\n" if position else "")
        sys.stdout.write(in_words(answer))
    if not checked.ok or workspace.diagnostics:
        write_diagnostics(found, workspace.sources, sys.stderr)
        write_summary(found, 1, run.milliseconds, sys.stderr)
        raise typer.Exit(FINDINGS)
    raise typer.Exit(OK)
