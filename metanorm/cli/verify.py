"""`metanorm verify`: compiled modules against the oracle, as a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metanorm import driver, frontend
from metanorm.cli.console import complain, write_diagnostics, write_summary
from metanorm.cli.context import begin
from metanorm.cli.exit_codes import FINDINGS, OK


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every setting, not only bad ones.")
    ] = False,
) -> None:
    """Hold compiled modules against the reference interpreter: values and gradients."""
    run = begin()
    workspace = run.workspace(specs or [])
    options = run.config.options()
    checked = frontend.check(workspace.sources, workspace.roots)
    result = driver.compile_specs(workspace.sources, workspace.roots, options)
    found = (*workspace.diagnostics, *result.diagnostics)
    if not result.files:
        write_diagnostics(found, workspace.sources, sys.stderr)
        write_summary(found, len(workspace.roots), run.milliseconds, sys.stderr)
        raise typer.Exit(FINDINGS)
    try:
        from metanorm.verify.report import print_table, verify_files
    except ImportError as error:
        complain(f"verify runs modules and needs torch: {error}")
        raise typer.Exit(FINDINGS) from error
    reports = verify_files(checked, result.files, workspace.roots)
    if json:
        for report in reports:
            sys.stdout.write(report.model_dump_json() + "\n")
    else:
        print_table(reports, show_all=every)
    bad = bool(workspace.diagnostics) or not all(report.good for report in reports)
    raise typer.Exit(FINDINGS if bad else OK)
