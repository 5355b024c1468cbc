"""Rewriting of specs by `check --fix` and `fmt`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from metanorm.cli.console import Failure, print_error, print_status
from metanorm.workspace import WorkspaceError, rewrite_spec


def rewrite_each(
    before: Mapping[str, str], after: Mapping[str, str], message_of: Callable[[str], str]
) -> None:
    """Write each text of `after`, and print what `message_of` says of its name.

    A text that cannot be written does not stop the others. Raises `Failure` at the end.
    """
    failures: list[str] = []
    for name, text in after.items():
        try:
            rewrite_spec(Path(name), before[name], text)
        except WorkspaceError as error:
            failures.append(str(error))
        else:
            print_status(f"{name}: {message_of(name)}")
    for message in failures[:-1]:
        print_error(message)
    if failures:
        raise Failure(failures[-1])
