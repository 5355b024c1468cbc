"""Writing changed specs over what they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from metanorm.cli.console import Failure, print_error, print_status
from metanorm.workspace import WorkspaceError, rewrite_spec


def rewrite_each(
    before: Mapping[str, str], after: Mapping[str, str], done: Callable[[str], str]
) -> None:
    """Write each text of `after`, and say `done(name)` of it.

    One that cannot be written keeps none of the others from it; then `Failure` says why.
    """
    failed: list[str] = []
    for name, text in after.items():
        try:
            rewrite_spec(Path(name), before[name], text)
        except WorkspaceError as error:
            failed.append(str(error))
        else:
            print_status(f"{name}: {done(name)}")
    for message in failed[:-1]:
        print_error(message)
    if failed:
        raise Failure(failed[-1])
