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

SHOWN = ("torch", "lark", "pydantic", "typer")


@dataclass(frozen=True, kw_only=True)
class Versions(Document):
    """What `metanorm version --json` prints."""

    versions: Mapping[str, str]


def command(
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """The versions of metanorm and of what it builds on."""
    versions = {"metanorm": __version__, "python": platform.python_version()}
    for name in SHOWN:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    if json:
        sys.stdout.write(json_text(Versions(versions=versions)))
        return
    for name, number in versions.items():
        say(f"{name} {number}\n")
