"""`metanorm version`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from metanorm.cli.console import say
from metanorm.json_document import Document, json_text
from metanorm.version import __version__

SPOKEN = {"c": "C", "python": "Python"}
SHOWN = ("torch", "lark", "pydantic", "typer")


@dataclass(frozen=True, kw_only=True)
class Versions(Document):
    """What `metanorm version --json` prints.

    `calls` says which path calls on kernels in C take here, `c` or `python`, and in the second case
    why; both are empty without torch.
    """

    versions: Mapping[str, str]
    calls: str
    why: str


def command(
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """The versions of metanorm and of what it builds on, and which path calls of norms take."""
    calls, why = _path_of_calls()
    if json:
        sys.stdout.write(json_text(Versions(versions=versions(), calls=calls, why=why)))
        return
    for name, number in versions().items():
        say(f"{name} {number}\n")
    if calls:
        say(f"calls through {SPOKEN[calls]}{f': {why}' if why else ''}\n")


def versions() -> dict[str, str]:
    """The versions by name."""
    found = {"metanorm": __version__, "python": platform.python_version()}
    for name in SHOWN:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _path_of_calls() -> tuple[str, str]:
    try:
        from metanorm.runtime import call_path  # takes torch, which the compiler does without
    except ModuleNotFoundError:
        return "", ""
    path = call_path()
    return path.name, path.reason
