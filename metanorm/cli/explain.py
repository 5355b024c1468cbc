"""`metanorm explain`: a spec, or an entry of a table of `metanorm list`, in words."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from metanorm.cli.console import (
    Failure,
    print_file,
    print_result,
    print_status,
    write_diagnostics,
    write_summary,
)
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.cli.file_names import demand_ending
from metanorm.cli.list import TOPICS
from metanorm.cli.named import NamedSpecs, find_specs, norm_names
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.diagnostics.render.json import CheckReport, report_fields
from metanorm.explain.facts import Facts, facts
from metanorm.explain.fingerprints import norms_by_fingerprint
from metanorm.explain.text_from_facts import text_from_facts
from metanorm.frontend import CheckedNorm
from metanorm.ir.ops import Operation, operations, public
from metanorm.json_document import json_text
from metanorm.resources import library_specs
from metanorm.torch_extra import import_failure
from metanorm.workspace import (
    STDIN,
    WorkspaceError,
    load_library,
    unknown_name,
    write_bytes,
)

SETTINGS = {"ignore_unknown_options": True}  # `-a` is an operation


@dataclass(frozen=True)
class Entry:
    """The explanation of a code, an operation, a pass or a target."""

    topic: str
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Explanation(CheckReport):
    """What `metanorm explain THING --json` prints: norms, or entries of a table."""

    entries: tuple[Entry, ...] = ()
    norms: tuple[Facts, ...] = ()


def command(
    subject: Annotated[
        str,
        typer.Argument(
            help="A code (MN0302), an operation (var), a pass, a target, a spec file, or a norm "
            "of the project or the library."
        ),
    ],
    norm: Annotated[str, typer.Option(help="Which norm, where the file has several.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with equations, pools, sweeps and traffic here, instead of text; "
            "- prints it."
        ),
    ] = None,
) -> None:
    """Say what an error means, what an operation computes, or how a spec is understood."""
    run = start_run()
    entries = _table_entries(subject)
    if html is not None and (entries or json):
        what = "--json" if json else f"`{subject}`, which is no spec"
        raise WorkspaceError(f"--html does not go with {what}")
    if html is not None and str(html) != STDIN:
        demand_ending(html, "a page", ".html", ".htm")
    if entries:
        if json:
            sys.stdout.write(json_text(Explanation(entries=entries)))
        else:
            print_result("\n".join(entry.text for entry in entries))
        raise typer.Exit(OK)
    named = find_specs(subject, run)
    if named is None:
        rows = (row["name"] for topic in ("passes", "targets") for row in TOPICS[topic]())
        candidates = (*all_codes(), *(row.name for row in public()), *rows)
        candidates = (*candidates, *norm_names(run), *library_specs())
        what = "code, operation, pass, target, norm or spec file"
        raise unknown_name(subject, candidates, what)
    if norm and norm not in (n.program.name for n in named.norms):
        raise unknown_name(norm, [n.program.name for n in named.norms], f"norm in {subject}")
    _explain_norms(
        NamedSpecs(named.workspace, named.checked, norm or named.norm),
        json,
        html,
        run.milliseconds,
    )


def _table_entries(subject: str) -> tuple[Entry, ...]:
    """The rows of all tables with this name; `max` is two operations."""
    code = subject.upper()
    if code in all_codes():
        return (Entry("errors", code, manual_page(code).markdown),)
    rows = operations(subject) or [row for row in public() if row.usage == subject]
    if rows:
        return tuple(Entry("operations", row.name, operation_text(row)) for row in rows)
    return tuple(
        Entry(topic, subject, f"{subject}\n    {topic}\n    {row['meaning']}\n")
        for topic in ("passes", "targets")
        for row in TOPICS[topic]()
        if row["name"] == subject
    )


def operation_text(row: Operation) -> str:
    """An operation as `explain` prints it."""
    return f"{row.usage}\n    {row.group}\n    {row.meaning}\n"


def _explain_norms(
    named: NamedSpecs, as_json: bool, html: Path | None, milliseconds: float
) -> None:
    workspace, checked = named.workspace, named.checked
    diagnostics = (*workspace.diagnostics, *checked.diagnostics)
    library = norms_by_fingerprint(load_library()) if named.norms else {}
    answers: tuple[Facts, ...] = tuple(facts(norm, library) for norm in named.norms)
    failed = not checked.ok or bool(workspace.diagnostics)
    if as_json:
        document = Explanation(**report_fields(diagnostics, workspace.sources), norms=answers)
        sys.stdout.write(json_text(document))
    else:
        if html is not None and answers:
            _write_page(list(zip(named.norms, answers)), html)
        else:
            print_result("\n".join(text_from_facts(answer) for answer in answers))
        if failed:
            write_diagnostics(diagnostics, workspace.sources, sys.stderr)
            write_summary(diagnostics, 1, milliseconds, sys.stderr)
    raise typer.Exit(FINDINGS if failed else OK)


def _write_page(norms: list[tuple[CheckedNorm, Facts]], path: Path) -> None:
    try:
        from metanorm.show.page import page
    except ImportError as error:
        raise Failure(f"a page has pictures of a small example: {import_failure(error)}") from error
    title = ", ".join(facts.norm for _, facts in norms)
    text = page(norms, title)
    if str(path) == STDIN:
        print_file(text)
    else:
        write_bytes(path, text.encode())
        print_status(f"{path}: written")
