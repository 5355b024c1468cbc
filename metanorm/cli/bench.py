"""`metanorm bench`: how fast norms are beside the layers that users would take instead."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from metanorm.cli.benchmarks import (
    CALLS,
    EXCHANGES,
    ROUNDS,
    STEPS,
    TURNS,
    Benchmark,
    Request,
    time_by_hand,
    time_calls,
    time_networks,
    time_norms,
    time_processes,
)
from metanorm.cli.console import print_error
from metanorm.cli.context import start_run
from metanorm.cli.devices import DeviceOption, require_device
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.cli.file_names import demand_ending, demand_writable
from metanorm.workspace import WorkspaceError

WIDTH = 120  # columns of a table that is not printed to a terminal


def command(
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks",
            help="Time steps of small networks with norms of the library instead, beside the same "
            "networks with those of torch.nn and PyG.",
        ),
    ] = False,
    calls: Annotated[
        bool,
        typer.Option(
            "--calls",
            help="Time what calls with small inputs consist of instead; without SPECS, of the "
            "norms that torch.nn or PyG have too.",
        ),
    ] = False,
    by_hand: Annotated[
        bool,
        typer.Option(
            "--by-hand",
            help="Time norms beside the layers of torch.nn and PyG and careful hand-written torch "
            "alone; without SPECS, all of the library that have any.",
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Start so many processes instead, and time norms that take samples from all of "
            "them, beside the messages alone; without SPECS, a few of the library.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the measurements here.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw them here, as a PNG.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Measurements of an earlier run to compare with.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How often each is timed. Default: `{ROUNDS}`; with `--networks` `{STEPS}`, "
            f"with `--calls` `{CALLS}`, with `--by-hand` `{TURNS}`, with `--processes` "
            f"`{EXCHANGES}`.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many torch may use.")] = None,
    only: Annotated[str, typer.Option(help="Inputs or networks with this in their name.")] = "",
    traced: Annotated[
        bool, typer.Option("--torch-compile/--no-torch-compile", help="Time torch.compile too.")
    ] = True,
    device: DeviceOption = "cpu",
) -> None:
    """Time norms against a copy of their input, others' layers and their plain equations.

    With --networks, --calls, --by-hand or --processes it times something else instead.
    """
    request = Request(
        specs=tuple(specs or ()), rounds=rounds, threads=threads, only=only, traced=traced,
        device=device, chart=chart, compare=compare, processes=processes,
    )  # fmt: skip
    flags = {
        "--networks": networks,
        "--calls": calls,
        "--by-hand": by_hand,
        "--processes": processes is not None,
    }
    benchmark = _select_benchmark(request, [flag for flag, is_set in flags.items() if is_set])
    require_device(device)
    run = start_run()
    for path, what, ending in ((json, "measurements", ".json"), (chart, "a chart", ".png")):
        if path is not None:
            demand_ending(path, what, ending)
            demand_writable(path)
    if chart is not None and find_spec("matplotlib") is None:
        raise WorkspaceError("a chart needs matplotlib: pip install 'metanorm[demo]'")
    outcome = benchmark(run, request)
    if outcome.timed:
        width = None if sys.stdout.isatty() else WIDTH
        Console(highlight=False, width=width).print(outcome.table, markup=False)
    for line in outcome.lines:
        sys.stdout.write(f"{line}\n")
    if json is not None:
        json.write_text(outcome.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if not outcome.timed:
        print_error(outcome.nothing + (f" with {only!r} in its name" if only else ""))
    raise typer.Exit(OK if outcome.timed else FINDINGS)


BY_FLAG: Mapping[str, Benchmark] = {
    "--networks": time_networks,
    "--calls": time_calls,
    "--by-hand": time_by_hand,
    "--processes": time_processes,
}


def _select_benchmark(request: Request, flags: Sequence[str]) -> Benchmark:
    """The benchmark that the flags select. Raises `WorkspaceError` for flags or options that
    exclude each other."""
    if not flags:
        return time_norms
    flag, *further_flags = flags
    conflicts = {
        **dict.fromkeys(further_flags, True),
        "--chart": request.chart is not None,
        "--compare": request.compare is not None,
        "SPECS: it takes the norms of the library": flag == "--networks" and bool(request.specs),
        "--device cuda: it takes C kernels apart": flag == "--calls" and request.device != "cpu",
        "--device cuda: it sends by gloo": flag == "--processes" and request.device != "cpu",
    }
    for other, is_set in conflicts.items():
        if is_set:
            raise WorkspaceError(f"{flag} does not go with {other}")
    return BY_FLAG[flag]
