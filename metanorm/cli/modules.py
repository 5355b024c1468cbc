"""Compiled specs, for commands that run modules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import typer

from metanorm import driver, frontend
from metanorm.cli.console import write_diagnostics, write_summary
from metanorm.cli.context import Run
from metanorm.cli.exit_codes import FINDINGS, code_of
from metanorm.frontend import Checked
from metanorm.options import Options
from metanorm.workspace import Workspace


@dataclass(frozen=True)
class Modules:
    """Specs, their checked norms, and the text of each generated file by name."""

    workspace: Workspace
    checked: Checked
    files: Mapping[str, str]


def modules(run: Run, specs: list[str], options: Options | None = None) -> Modules:
    """Compile specs with these options, or the configured ones. Reports errors and ends the run."""
    workspace = run.workspace(specs)
    checked = frontend.check(workspace.sources, workspace.roots)
    options = options or run.config.options()
    result = driver.compile_specs(workspace.sources, workspace.roots, options)
    if not result.ok or not result.files:
        diagnostics = (*workspace.diagnostics, *result.diagnostics)
        write_diagnostics(diagnostics, workspace.sources, sys.stderr)
        write_summary(diagnostics, len(workspace.roots), run.milliseconds, sys.stderr)
        raise typer.Exit(code_of(diagnostics) or FINDINGS)
    return Modules(workspace, checked, result.files)
