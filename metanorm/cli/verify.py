"""`metanorm verify`: compiled modules against the oracle, as a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metanorm.cli.console import complain
from metanorm.cli.context import begin
from metanorm.cli.devices import Choice, demand, options_for
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.cli.modules import modules


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every setting, not only bad ones.")
    ] = False,
    device: Choice = "cpu",
) -> None:
    """Hold compiled modules against the reference interpreter: values and gradients."""
    demand(device)
    run = begin()
    compiled = modules(run, specs or [], options_for(device, run.config.options()))
    try:
        from metanorm.verify.report import print_table, verify_files
    except ImportError as error:
        complain(f"verify runs modules and needs torch: {error}")
        raise typer.Exit(FINDINGS) from error
    reports = verify_files(compiled.checked, compiled.files, compiled.workspace.roots, device)
    if json:
        for report in reports:
            sys.stdout.write(report.model_dump_json() + "\n")
    else:
        print_table(reports, show_all=every)
    bad = bool(compiled.workspace.diagnostics) or not all(report.good for report in reports)
    raise typer.Exit(FINDINGS if bad else OK)
