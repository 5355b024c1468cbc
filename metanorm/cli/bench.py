"""`metanorm bench`: how fast norms are, beside what their users would take instead."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from metanorm.cli.console import complain
from metanorm.cli.context import begin
from metanorm.cli.devices import Choice, demand, options_for
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.cli.modules import modules
from metanorm.workspace import WorkspaceError

if TYPE_CHECKING:
    from metanorm.bench.report import Report

WIDTH = 120  # of a table that goes into a file or to another program


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the measurements here.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw them here, as a PNG.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Measurements of an earlier run to compare with.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each call is timed.")] = 15,
    threads: Annotated[int | None, typer.Option(min=1, help="How many torch may use.")] = None,
    only: Annotated[str, typer.Option(help="Inputs whose name has this in it.")] = "",
    traced: Annotated[
        bool, typer.Option("--torch-compile/--no-torch-compile", help="Time torch.compile too.")
    ] = True,
    device: Choice = "cpu",
) -> None:
    """Time norms against a copy of their input, others' layers and their plain equations."""
    demand(device)
    run = begin()
    compiled = modules(run, specs or [], options_for(device, run.config.options()))
    try:
        from metanorm.bench import measure, memory, report
        from metanorm.bench.device import DEVICES
        from metanorm.bench.machine import machine
        from metanorm.bench.summary import summary
        from metanorm.bench.table import table_of
    except ImportError as error:
        complain(f"bench runs modules and needs torch: {error}")
        raise typer.Exit(FINDINGS) from error
    old = _read(compare) if compare is not None else None
    for path in (json, chart):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if chart is not None and find_spec("matplotlib") is None:
        raise WorkspaceError("a chart needs matplotlib: pip install 'metanorm[demo]'")
    if device == "cpu" and not memory.keep_freed_memory():
        complain("freed memory cannot be kept here: times include those of fresh pages")
    for root in compiled.workspace.roots:
        for norm in compiled.checked.norms[root]:
            if norm.program.target != "activation":
                complain(f"{norm.program.name} is left out: only norms for activations are timed")
    plan = measure.Plan(rounds, only, traced, threads)
    entries = []
    for entry in measure.measure_files(
        compiled.checked, compiled.files, compiled.workspace.roots, plan, DEVICES[device]()
    ):
        entries.append(entry)
        sys.stderr.write(f"{entry.norm}, {entry.workload}: done\n")
    new = report.Report(machine=machine(device), entries=tuple(entries))
    width = None if sys.stdout.isatty() else WIDTH
    Console(highlight=False, width=width).print(table_of(new), markup=False)
    if old is not None and old.machine != new.machine:
        complain(f"{compare} was taken elsewhere: {report.place(old.machine)}")
    compared = report.changes(old, new) if old is not None else ()
    for line in (*report.left_out(new), *summary(new), *compared):
        sys.stdout.write(f"{line}\n")
    if json is not None:
        json.write_text(new.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if chart is not None:
        from metanorm.bench.chart import draw

        draw(new, chart)
    if not entries:
        complain("no norm fits any input" + (f" with {only!r} in its name" if only else ""))
    raise typer.Exit(OK if entries else FINDINGS)


def _read(path: Path) -> Report:
    """Measurements that an earlier run has written."""
    from metanorm.bench.report import Report

    try:
        return Report.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise WorkspaceError(f"{path} does not hold measurements of this version") from error
