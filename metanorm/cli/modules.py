"""What commands that run modules begin with: specs, checked and compiled, or the report."""

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
    """Specs, what the front end made of them, and the text of each module by file name."""

    workspace: Workspace
    checked: Checked
    files: Mapping[str, str]


def modules(run: Run, specs: list[str], options: Options | None = None) -> Modules:
    """Compile specs, as is configured unless there are options. Where one has an error, report all
    of them and end the run."""
    workspace = run.workspace(specs)
    checked = frontend.check(workspace.sources, workspace.roots)
    options = options or run.config.options()
    result = driver.compile_specs(workspace.sources, workspace.roots, options)
    if not result.ok or not result.files:
        found = (*workspace.diagnostics, *result.diagnostics)
        write_diagnostics(found, workspace.sources, sys.stderr)
        write_summary(found, len(workspace.roots), run.milliseconds, sys.stderr)
        raise typer.Exit(code_of(found) or FINDINGS)
    return Modules(workspace, checked, result.files)
