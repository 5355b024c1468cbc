"""`metanorm version`: prints versions, and which paths calls take."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from metanorm.cli.console import print_result
from metanorm.json_document import Document, json_text
from metanorm.version import __version__

LANGUAGES = {"c": "C", "python": "Python"}
PACKAGES = ("torch", "torch-scatter", "lark", "pydantic", "typer")


@dataclass(frozen=True, kw_only=True)
class Versions(Document):
    """What `metanorm version --json` prints.

    `calls` says which path calls on kernels in C take here, `c` or `python`, and in the second case
    `why`. `sums` says who adds up groups of rows with sorted labels where norms run on torch on a
    GPU, `torch-scatter` or `torch`, and in the second case `sums_why`. All are empty without torch.
    """

    versions: Mapping[str, str]
    calls: str
    why: str
    sums: str
    sums_why: str


def command(
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """The versions of metanorm and of what it builds on, and which path calls of norms take."""
    (calls, why), (sums, sums_why) = _call_paths()
    if json:
        document = Versions(versions=versions(), calls=calls, why=why, sums=sums, sums_why=sums_why)
        sys.stdout.write(json_text(document))
        return
    for name, number in versions().items():
        print_result(f"{name} {number}\n")
    if calls:
        print_result(f"sums over graphs on a GPU by {sums}{f': {sums_why}' if sums_why else ''}\n")
        print_result(f"calls through {LANGUAGES[calls]}{f': {why}' if why else ''}\n")


def versions() -> dict[str, str]:
    """The versions by name."""
    version_by_name = {"metanorm": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            version_by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            version_by_name[name] = "not installed"
    return version_by_name


def _call_paths() -> tuple[tuple[str, str], tuple[str, str]]:
    """The call path, and the package that computes sums over graphs; each with the reason."""
    try:
        # These import torch, which may be missing.
        from metanorm.runtime import call_path, who_adds
    except ModuleNotFoundError:
        return ("", ""), ("", "")
    path = call_path()
    return (path.name, path.reason), who_adds()
