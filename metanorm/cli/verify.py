"""`metanorm verify`: compares compiled modules with the oracle; prints a line for each norm."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from metanorm.cli.console import (
    Failure,
    print_error,
    print_result,
    write_diagnostics,
    write_summary,
)
from metanorm.cli.context import start_run
from metanorm.cli.devices import DeviceOption, options_for, require_device
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.cli.progress import ProgressBar
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.json import CheckReport, report_fields
from metanorm.findings import findings_to_run
from metanorm.json_document import json_text
from metanorm.torch_extra import import_failure
from metanorm.verify.finding import Verification, totals

if TYPE_CHECKING:
    from metanorm.verify.report import Task

COLUMNS = ("checks", "on kernels", "agree", "refuse", "ill-conditioned", "largest error", "result")


@dataclass(frozen=True, kw_only=True)
class Verifications(CheckReport):
    """What `metanorm verify --json` prints."""

    good: bool
    norms: tuple[Verification, ...]


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every setting, not only bad ones.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: about a third of the settings.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="How many processes verify norms.")
    ] = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Hold compiled modules against the reference interpreter: values and gradients."""
    require_device(device)
    run = start_run()
    workspace = run.workspace(specs or [])
    checkable = findings_to_run(workspace)
    diagnostics = checkable.diagnostics
    errors = [d for d in diagnostics if d.severity is Severity.ERROR]
    if errors and not json:
        write_diagnostics(diagnostics, workspace.sources, sys.stderr)
        write_summary(diagnostics, len(workspace.roots), run.milliseconds, sys.stderr)
    try:
        from metanorm.verify.report import tasks
    except ImportError as error:
        raise Failure(f"verify runs modules: {import_failure(error)}") from error
    options = options_for(device, run.config.options())
    every_task = tasks(
        checkable.checked, workspace.sources, checkable.roots_without_errors, options, device, quick
    )
    reports = []
    show = _Table([task.norm for task in every_task], every)
    with ProgressBar(len(every_task)) as bar:
        for report in _verifications(every_task, jobs, bar):
            reports.append(report)
            bar.done(lambda: None if json else show.row(reports[-1]))
    good = not errors and all(report.good for report in reports)
    if json:
        fields = report_fields(diagnostics, workspace.sources)
        sys.stdout.write(json_text(Verifications(good=good, norms=tuple(reports), **fields)))
    else:
        print_result(f"{totals(reports)}\n" if reports else "")
    raise typer.Exit(OK if good else FINDINGS)


def _verifications(tasks: Sequence[Task], jobs: int, bar: ProgressBar) -> Iterator[Verification]:
    from metanorm.verify.jobs import verify_in_processes
    from metanorm.verify.report import steps

    if jobs > 1:
        for report in verify_in_processes(tasks, jobs):
            if report is not None:
                yield report
            bar.at(f"{jobs} processes")
        return
    for task in tasks:
        for step in steps(task):
            if isinstance(step, Verification):
                yield step
            else:
                bar.at(f"{task.norm}, {step.setting}")


class _Table:
    """A table that is printed row by row, since norms take long to verify."""

    def __init__(self, norms: Sequence[str], every: bool) -> None:
        self.width = max((len(norm) for norm in norms), default=0)
        self.every = every
        self.notes: set[str] = set()
        self.has_header = False

    def row(self, report: Verification) -> None:
        """Print the row of a norm, and below it its bad findings."""
        if not self.has_header:
            self.has_header = True
            print_result(f"{'norm'.ljust(self.width)}  {'  '.join(COLUMNS)}\n")
        outcomes = (report.count(o) for o in ("ok", "refused", "ill-conditioned"))
        counts = (len(report.findings), report.on_kernels, *outcomes)
        result = "good" if report.good else "BAD"
        cells = (*map(str, counts), f"{report.largest_error:.1e}", result)
        aligned = "  ".join(cell.rjust(len(head)) for cell, head in zip(cells, COLUMNS))
        print_result(f"{report.norm.ljust(self.width)}  {aligned}\n")
        if report.problem:
            print_result(f"  {report.norm} could not be verified: {report.problem}\n")
        for finding in report.findings:
            if self.every or not finding.good or finding.outcome == "ill-conditioned":
                print_result(f"  {report.norm}, {finding.text()}\n")
        for note in report.notes:
            if note not in self.notes:
                print_error(note)
        self.notes.update(report.notes)
        sys.stdout.flush()
