"""`metanorm breaking`: which changes of specs break users of their modules."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.breaking.change import Change
from metanorm.breaking.interface import interface_changes
from metanorm.cli.console import print_error, print_result, write_diagnostics
from metanorm.cli.context import start_run
from metanorm.cli.exit_codes import FINDINGS, OK
from metanorm.diagnostics.model import Severity
from metanorm.ir.program import Program
from metanorm.json_document import Document, json_text
from metanorm.torch_extra import import_failure
from metanorm.workspace import Workspace, WorkspaceError, load

GIT = "git:"


@dataclass(frozen=True, kw_only=True)
class Changes(Document):
    """What `metanorm breaking --json` prints."""

    changes: tuple[Change, ...]


def command(
    against: Annotated[
        str,
        typer.Option(
            help="The version to compare with: git:REF, such as git:main, or a file or a folder."
        ),
    ],
    specs: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON.")] = False,
) -> None:
    """Compare specs with an earlier version: state dicts, constructors, inputs, outputs, numbers.

    Numbers are compared on a small example, by the reference interpreter. Fails where a change
    breaks what users have.
    """
    run = start_run()
    paths = specs or [run.relative(spec) for spec in run.config.specs]
    new = _norms_by_name(run.workspace(paths), "")
    with _earlier_paths(against, paths) as old_paths:
        old = _norms_by_name(load(old_paths), f"at {against}") if old_paths else {}
    changes = [
        change
        for name, program in old.items()
        for change in _changes_of_norm(program, new.get(name))
    ]
    breaks = sum(change.breaks for change in changes)
    if json:
        sys.stdout.write(json_text(Changes(changes=tuple(changes))))
    else:
        for change in changes:
            print_result(
                f"{change.norm}: {change.text}{'' if change.breaks else ' (breaks nothing)'}\n"
            )
        others = len(changes) - breaks
        added = ", ".join(name for name in new if name not in old)
        norms = f"{len(old)} norm{'s' if len(old) != 1 else ''}"
        noun = "change" if others == 1 else "changes"
        print_result(f"{breaks} breaking and {others} other {noun} in {norms} of {against}")
        print_result(f"; new: {added}\n" if added else "\n")
    raise typer.Exit(FINDINGS if breaks else OK)


def _changes_of_norm(old: Program, new: Program | None) -> Iterator[Change]:
    if new is None:
        yield Change(old.name, "norm", "is gone")
        return
    yield from interface_changes(old, new)
    try:
        from metanorm.breaking.numbers import number_changes
    except ImportError as error:
        print_error(f"numbers were not compared: {import_failure(error)}")
        raise typer.Exit(FINDINGS) from error
    yield from number_changes(old, new)


def _norms_by_name(workspace: Workspace, when: str) -> dict[str, Program]:
    """The norms by name. Ends the run if a spec has errors."""
    checked = frontend.check(workspace.sources, workspace.roots)
    errors = [
        d for d in (*workspace.diagnostics, *checked.diagnostics) if d.severity is Severity.ERROR
    ]
    if errors:
        write_diagnostics(errors, workspace.sources, sys.stderr)
        print_error(f"specs with errors cannot be compared{f' ({when})' if when else ''}")
        raise typer.Exit(FINDINGS)
    norms: dict[str, Program] = {}
    for root in workspace.roots:
        for norm in checked.norms[root]:
            name = norm.program.name
            if name in norms:
                raise WorkspaceError(f"there are two norms `{name}`: name the specs of one package")
            norms[name] = norm.program
    return norms


@contextmanager
def _earlier_paths(against: str, paths: list[str]) -> Iterator[list[str]]:
    """The paths of the earlier specs. Those of git are in a temporary folder."""
    if not against.startswith(GIT):
        yield [against]
        return
    ref = against.removeprefix(GIT)
    if not ref or ref.startswith("-"):
        raise WorkspaceError(f"`{against}` names no version: write git:main, say")
    top = Path(_git("rev-parse", "--show-toplevel").decode().rstrip("\n"))
    with tempfile.TemporaryDirectory(prefix="metanorm-") as folder:
        _extract_specs(ref, top, Path(folder))
        extracted = [_path_inside(path, top, Path(folder)) for path in paths]
        yield [str(path) for path in extracted if _has_specs(path)]


def _extract_specs(ref: str, top: Path, folder: Path) -> None:
    """Write the specs of a version into a folder, under their paths in the repository.

    They are checked out from an index of their own, so that neither the user's index changes nor
    `export-ignore` leaves a spec out, as it does for `git archive`.
    """
    entries = _git("ls-tree", "-r", "-z", "--full-tree", ref).split(b"\0")
    files = [entry for entry in entries if entry.startswith(b"100") and entry.endswith(b".norm")]
    with tempfile.TemporaryDirectory(prefix="metanorm-") as index_folder:
        environment = {**os.environ, "GIT_INDEX_FILE": os.path.join(index_folder, "index")}
        at_top = partial(_git, "-C", str(top), environment=environment)
        at_top("update-index", "-z", "--index-info", stdin=b"".join(f + b"\0" for f in files))
        at_top("checkout-index", "--all", f"--prefix={folder}{os.sep}")


def _path_inside(path: str, top: Path, folder: Path) -> Path:
    """The path in `folder` that corresponds to a path in the repository."""
    try:
        return folder / Path(os.path.abspath(path)).resolve().relative_to(top.resolve())
    except ValueError as error:
        raise WorkspaceError(f"`{path}` is not in the repository {top}") from error


def _has_specs(path: Path) -> bool:
    return path.is_file() or any(path.rglob("*.norm"))


def _git(
    *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """What git prints. Raises `WorkspaceError` with its first message if it fails."""
    try:
        process = subprocess.run(
            ["git", *arguments], input=stdin, capture_output=True, env=environment
        )
    except FileNotFoundError as error:
        raise WorkspaceError("there is no git to ask for the earlier version") from error
    if process.returncode:
        messages = process.stderr.decode(errors="replace").strip().splitlines()
        raise WorkspaceError(f"git: {messages[0] if messages else 'failed'}")
    return process.stdout
