"""The benchmarks of `metanorm bench`: norms alone, networks with them, and parts of calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from metanorm.cli.console import print_error
from metanorm.cli.context import Run
from metanorm.cli.devices import Device, options_for
from metanorm.cli.exit_codes import FINDINGS
from metanorm.cli.modules import modules
from metanorm.torch_extra import import_failure
from metanorm.workspace import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from metanorm.bench.report import Model, Report

# Default number of rounds for an input, a step of a network, a call, a norm written by hand, a call
# among processes.
ROUNDS, STEPS, CALLS, TURNS, EXCHANGES = 15, 100, 100, 30, 50


@dataclass(frozen=True)
class Request:
    """The arguments of `metanorm bench`."""

    specs: tuple[str, ...]
    rounds: int | None
    threads: int | None
    only: str
    traced: bool
    device: Device
    chart: Path | None
    compare: Path | None
    processes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The results of a benchmark: data for a file, a table, and lines below it.

    `timed` says whether anything was timed, and `nothing` is the message if not.
    """

    report: Model
    table: Table
    lines: tuple[str, ...]
    timed: bool
    nothing: str


Benchmark = Callable[[Run, Request], Outcome]
Entry = TypeVar("Entry")  # what a benchmark has timed: a norm on an input, a step of a network


def time_norms(run: Run, request: Request) -> Outcome:
    """Time norms of specs beside a copy of their input, layers of others and their equations."""
    compiled = modules(run, [*request.specs], options_for(request.device, run.config.options()))
    with _requires_torch():
        from metanorm.bench import measure, report
        from metanorm.bench.device import DEVICES
        from metanorm.bench.machine import machine
        from metanorm.bench.summary import summary
        from metanorm.bench.table import table_of
    old = _read_report(request.compare) if request.compare is not None else None
    _keep_freed_memory(request.device)
    for root in compiled.workspace.roots:
        for norm in compiled.checked.norms[root]:
            if norm.program.target != "activation":
                print_error(
                    f"{norm.program.name} is left out: only norms for activations are timed"
                )
    plan = measure.Plan(request.rounds or ROUNDS, request.only, request.traced, request.threads)
    device = DEVICES[request.device]()

    def report_of(*entries: report.Entry) -> report.Report:
        return report.Report(machine=machine(request.device), entries=entries)

    entries = _shown(
        measure.measure_files(
            compiled.checked, compiled.files, compiled.workspace.roots, plan, device
        ),
        lambda entry: table_of(report_of(entry)),
    )
    new = report_of(*entries)
    if old is not None and old.machine != new.machine:
        print_error(f"{request.compare} was taken elsewhere: {report.machine_text(old.machine)}")
    compared = report.changes(old, new) if old is not None else ()
    if request.chart is not None:
        from metanorm.bench.chart import draw

        draw(new, request.chart)
    lines = (*report.left_out(new), *summary(new), *compared)
    return Outcome(new, table_of(new), lines, bool(entries), "no norm fits any input")


def time_networks(run: Run, request: Request) -> Outcome:
    """Time steps of networks with norms of the library, beside the same with layers of others."""
    with _requires_torch():
        from metanorm.bench.device import DEVICES
        from metanorm.bench.machine import machine
        from metanorm.bench.networks import measure, report
        from metanorm.bench.networks.table import table_of
    _keep_freed_memory(request.device)
    plan = measure.Plan(request.rounds or STEPS, request.only, request.threads)
    options = options_for(request.device, run.config.options())
    left_out: list[str] = []

    def report_of(*entries: report.NetworkEntry) -> report.NetworkReport:
        return report.NetworkReport(
            machine=machine(request.device),
            rounds=plan.rounds,
            entries=entries,
            left_out=tuple(left_out),
        )

    def measured() -> Iterator[report.NetworkEntry]:
        for entry in measure.measure_networks(options, plan, DEVICES[request.device]()):
            if isinstance(entry, str):
                left_out.append(entry)
            else:
                yield entry

    entries = _shown(measured(), lambda entry: table_of(report_of(entry)))
    new = report_of(*entries)
    lines = (*left_out, *report.summary(new))
    return Outcome(new, table_of(new), lines, bool(entries), "no network was timed")


def time_calls(run: Run, request: Request) -> Outcome:
    """Time the parts of calls with small inputs, beside layers of others."""
    options = run.config.options()
    compiled = modules(run, [*request.specs], options) if request.specs else None
    with _requires_torch():
        from metanorm.bench.calls import measure, report, table
        from metanorm.bench.library import CompiledSpecs, library_specs_of
        from metanorm.bench.machine import machine
        from metanorm.bench.peers.layers import LAYERS
    _keep_freed_memory(request.device)
    if compiled is None:
        specs = library_specs_of(LAYERS, options)
    else:
        specs = CompiledSpecs(compiled.checked, compiled.files, compiled.workspace.roots)
    plan = measure.Plan(
        request.rounds or CALLS, request.only, request.threads, not request.specs, request.traced
    )

    def report_of(*entries: report.CallEntry) -> report.CallReport:
        return report.CallReport(
            machine=machine(request.device), rounds=plan.rounds, entries=entries
        )

    entries = _shown(
        measure.measure_calls(specs, plan), lambda entry: table.table_of(report_of(entry))
    )
    new = report_of(*entries)
    lines = (*table.legend(new), *table.left_out(new), *table.summary(new))
    return Outcome(new, table.table_of(new), lines, bool(entries), "no norm fits any small input")


def time_by_hand(run: Run, request: Request) -> Outcome:
    """Time norms beside the layers that people use and write instead."""
    options = options_for(request.device, run.config.options())
    compiled = modules(run, [*request.specs], options) if request.specs else None
    with _requires_torch():
        from metanorm.bench.by_hand import measure, report
        from metanorm.bench.by_hand.rows import ROWS
        from metanorm.bench.by_hand.table import table_of
        from metanorm.bench.device import DEVICES
        from metanorm.bench.library import CompiledSpecs, library_specs_of
        from metanorm.bench.machine import machine
    _keep_freed_memory(request.device)
    if compiled is None:
        specs = library_specs_of(ROWS, options)
    else:
        specs = CompiledSpecs(compiled.checked, compiled.files, compiled.workspace.roots)
    plan = measure.Plan(request.rounds or TURNS, request.only, request.threads)

    def report_of(*entries: report.HandEntry) -> report.HandReport:
        return report.HandReport(
            machine=machine(request.device), rounds=plan.rounds, entries=entries
        )

    entries = _shown(
        measure.measure_by_hand(specs, plan, DEVICES[request.device]()),
        lambda entry: table_of(report_of(entry)),
    )
    new = report_of(*entries)
    nothing = "nobody has written any of these norms by hand"
    return Outcome(new, table_of(new), tuple(report.summary_lines(new)), bool(entries), nothing)


def time_processes(run: Run, request: Request) -> Outcome:
    """Time norms whose samples are divided among processes, and their messages alone."""
    assert request.processes is not None
    options = run.config.options()
    compiled = modules(run, [*request.specs], options) if request.specs else None
    with _requires_torch():
        from metanorm.bench.library import CompiledSpecs, library_specs_of
        from metanorm.bench.machine import machine
        from metanorm.bench.processes import measure, report
        from metanorm.bench.processes.rows import NORMS
        from metanorm.bench.processes.table import table_of
    if compiled is None:
        specs = library_specs_of(NORMS, options)
    else:
        specs = CompiledSpecs(compiled.checked, compiled.files, compiled.workspace.roots)
    rounds = request.rounds or EXCHANGES
    plan = measure.Plan(
        request.processes, rounds, request.only, request.threads,
        named=() if request.specs else NORMS,
    )  # fmt: skip
    processes = request.processes

    def report_of(*entries: report.ProcessEntry) -> report.ProcessReport:
        return report.ProcessReport(
            machine=machine(request.device), processes=processes, rounds=rounds, entries=entries
        )

    entries = _shown(
        measure.measure_processes(specs, plan), lambda entry: table_of(report_of(entry))
    )
    new = report_of(*entries)
    timed = any(entry.times for entry in entries)
    nothing = "no norm that pools over samples fits any input"
    return Outcome(new, table_of(new), tuple(report.lines_below(new)), timed, nothing)


@contextmanager
def _requires_torch() -> Iterator[None]:
    """Turn an `ImportError` into a message and an exit."""
    try:
        yield
    except ImportError as error:
        print_error(f"bench runs modules: {import_failure(error)}")
        raise typer.Exit(FINDINGS) from error


def _keep_freed_memory(device: Device) -> None:
    from metanorm.bench.memory import keep_freed_memory

    if device == "cpu" and not keep_freed_memory():
        print_error("freed memory cannot be kept here: times include those of fresh pages")


def _shown(entries: Iterable[Entry], table_of: Callable[[Entry], Table]) -> tuple[Entry, ...]:
    """The entries. The rows of each are printed as soon as it is timed: a run may be stopped."""
    timed = []
    for entry in entries:
        timed.append(entry)
        columns = table_of(entry).columns
        for row in zip(*(column.cells for column in columns)):
            cells = [f"{column.header} {cell}" for column, cell in zip(columns, row) if cell]
            sys.stderr.write(f"{', '.join(cells)}\n")
    return tuple(timed)


def _read_report(path: Path) -> Report:
    """The report that an earlier run has written."""
    from metanorm.bench.report import Report

    try:
        return Report.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise WorkspaceError(f"{path} does not hold measurements of this version") from error
