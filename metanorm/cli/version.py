"""`metanorm version`."""

from __future__ import annotations

import json as json_text
import platform
import sys
from importlib import metadata
from typing import Annotated

import typer

from metanorm.version import __version__

SHOWN = ("torch", "lark", "pydantic", "typer")


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
        sys.stdout.write(json_text.dumps(versions, indent=2) + "\n")
        return
    for name, number in versions.items():
        sys.stdout.write(f"{name} {number}\n")
