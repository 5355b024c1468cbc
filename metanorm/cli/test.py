"""`metanorm test`: runs the examples that stand in specs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from metanorm.cli.console import (
    Failure,
    print_error,
    print_result,
    write_diagnostics,
    write_summary,
)
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.render.json import CheckReport, report_fields
from metanorm.findings import findings_to_run
from metanorm.json_document import json_text
from metanorm.torch_extra import import_failure
from metanorm.verify.example_results import ExampleResult, summary

NO_EXAMPLES = "no example: write `example x = [[1, 3]] gives [[-1, 1]]` into a norm"


@dataclass(frozen=True, kw_only=True)
class Tests(CheckReport):
    """What `metanorm test --json` prints."""

    good: bool
    examples: tuple[ExampleResult, ...]


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run the examples in specs, by the reference interpreter and on every target there is."""
    run = start_run()
    workspace = run.workspace(specs or [])
    checkable = findings_to_run(workspace)
    errors = [d for d in checkable.diagnostics if d.severity is Severity.ERROR]
    if errors and not json:
        write_diagnostics(errors, workspace.sources, sys.stderr)
        write_summary(errors, len(workspace.roots), run.milliseconds, sys.stderr)
    try:
        from metanorm.verify.examples import results_of_file
    except ImportError as error:
        raise Failure(f"test runs modules: {import_failure(error)}") from error
    results: list[ExampleResult] = []
    for root in checkable.roots_without_errors:
        for result in results_of_file(checkable.checked.norms[root], workspace.sources, root):
            results.append(result)
            if not json:
                print_result(_lines(result))
    good = not errors and bool(results) and all(result.good for result in results)
    if json:
        fields = report_fields(checkable.diagnostics, workspace.sources)
        sys.stdout.write(json_text(Tests(good=good, examples=tuple(results), **fields)))
    elif results:
        print_result(f"{summary(results)}\n")
    elif not errors:
        print_error(NO_EXAMPLES)
    raise typer.Exit(OK if good else FINDINGS)


def _lines(result: ExampleResult) -> str:
    """`mine/a.norm:5:3: Centred: as expected on oracle, torch, native`, and what is not."""
    location = f"{result.location}: {result.norm}"
    lines = [f"{location}: on {runner}: {what}" for runner, what in result.failures.items()]
    if result.passed:
        lines.append(f"{location}: as expected on {', '.join(result.passed)}")
    return "".join(f"{line}\n" for line in lines)
