"""The option `--watch`: runs a command again when a spec changes, until ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from metanorm.cli.console import Failure, print_error, print_status
from metanorm.cli.context import start_run
from metanorm.config import ConfigError
from metanorm.resources import LIBRARY
from metanorm.workspace import STDIN, WorkspaceError

CONFIGURATION = "pyproject.toml"
TIMEOUT = 500  # milliseconds
Changes = Iterator[list[str]]


@dataclass(frozen=True)
class WatchedPaths:
    """Folders whose specs are watched, and single files."""

    folders: frozenset[str]
    files: frozenset[str]


def run_on_changes(specs: Sequence[str], command: Callable[[], None]) -> None:
    """Run a command on specs now and after each change. Returns at ctrl-C.

    A command that fails runs again after the next change. Raises `Failure` if nothing can be
    watched.
    """
    if STDIN in specs:
        raise Failure("--watch watches files, and standard input is none")
    try:
        from watchfiles import watch
    except ImportError as error:
        raise Failure("--watch needs watchfiles: pip install 'metanorm[watch]'") from error
    try:
        watched_paths: WatchedPaths | None = None
        changed: list[str] = []
        while True:
            paths = _paths_to_watch(specs)
            if paths != watched_paths:
                watched_paths, changes = paths, _watch_changes(watch, paths)
                next(changes)  # starts to watch: changes while the command runs count
            _run_once(command, changed)
            changed = next(names for names in changes if names)
    except KeyboardInterrupt:
        print_status("")


def _watch_changes(
    watch: Callable[..., Iterator[set[tuple[Any, str]]]], paths: WatchedPaths
) -> Changes:
    """The changed files of each round; an empty list after `TIMEOUT` without a change."""

    def concerns(_: object, path: str) -> bool:
        return path in paths.files or (path.endswith(".norm") and _is_below(path, paths))

    folders = {*paths.folders, *(os.path.dirname(path) for path in paths.files)}
    changes_of_rounds = watch(
        *(folder for folder in folders if os.path.isdir(folder)),
        watch_filter=concerns,
        recursive=bool(paths.folders),
        raise_interrupt=True,
        rust_timeout=TIMEOUT,
        yield_on_timeout=True,
    )
    for changes in changes_of_rounds:
        yield sorted({os.path.relpath(path) for _, path in changes})


def _is_below(path: str, paths: WatchedPaths) -> bool:
    return any(path.startswith(f"{folder}{os.sep}") for folder in paths.folders)


def _run_once(command: Callable[[], None], changed: Sequence[str]) -> None:
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        print_status(f"{changed[0]}{more} changed")
    try:
        command()
    except typer.Exit:
        pass
    except (WorkspaceError, ConfigError, Failure, OSError) as error:
        print_error(str(error))
    finally:
        sys.stdout.flush()  # a reader of a pipe waits for it


def _paths_to_watch(specs: Sequence[str]) -> WatchedPaths:
    """The paths of these specs, or of the configured ones, and of all that they use."""
    root = Path.cwd()
    sources: list[str] = []
    try:
        run = start_run()
        root = run.root
        specs = specs or [run.relative(spec) for spec in run.config.specs]
        sources = list(run.workspace(list(specs)).sources)
    except (WorkspaceError, ConfigError):
        pass  # the command has reported it
    folders = frozenset(os.path.abspath(path) for path in specs if os.path.isdir(path))
    used = (path for path in sources if not path.startswith(LIBRARY))
    files = {os.path.abspath(path) for path in (*specs, *used) if path.endswith(".norm")}
    return WatchedPaths(folders, frozenset({*files, str(root / CONFIGURATION)}))
