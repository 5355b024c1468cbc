"""`metanorm init`: sets up a project that uses metanorm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from metanorm.cli.console import print_result, print_status
from metanorm.cli.new import TEMPLATE
from metanorm.config import Config
from metanorm.version import __version__
from metanorm.workspace import Output, WorkspaceError, write_outputs

CONFIGURATION = """\
[tool.metanorm]
specs = ["{specs}"]
out = "{out}"
"""
ATTRIBUTES = "{out}/** linguist-generated=true\n"
HOOKS = """\
repos:
{hooks}"""
HOOK = """\
  - repo: local
    hooks:
      - id: metanorm-fmt
        name: metanorm fmt
        entry: metanorm fmt
        language: system
        files: \\.norm$
      - id: metanorm-check
        name: metanorm check
        entry: metanorm check
        language: system
        files: \\.norm$
      - id: metanorm-compile
        name: metanorm compile
        entry: metanorm compile
        language: system
        pass_filenames: false
        files: \\.norm$
"""
WORKFLOW = """\
name: norms
on: [push, pull_request]
permissions:
  contents: read
jobs:
  norms:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install metanorm=={version}
      - run: metanorm fmt --check
      - run: metanorm check --format github
      - run: metanorm compile --check
"""


@dataclass(frozen=True)
class SetupFile:
    """A file, the text to add to it, and a pattern that matches if it has that text already."""

    path: str
    text: str
    pattern: str
    may_be_added: bool = True  # at the end of a file that exists


def command(
    folder: Annotated[str, typer.Argument(help="The folder of the project.")] = ".",
    specs: Annotated[str, typer.Option(help="The folder of specs.")] = Config().specs[0],
    output: Annotated[str, typer.Option("--output", "-o", help="The package.")] = Config().out,
) -> None:
    """Set up a project: configuration, a first spec, pre-commit hooks, CI, .gitattributes.

    Nothing is overwritten. What cannot be added to a file is printed.
    """
    for name in (specs, output):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name.split("/"):
            raise WorkspaceError(
                f"`{name}` cannot be a folder of the project: it takes a path inside of it, of "
                "letters, digits, `_`, `-` and `.`, with `/` between folders"
            )
    if specs == output:
        raise WorkspaceError(f"`{specs}` cannot hold specs and their package: choose two folders")
    root = Path(folder)
    outputs: list[Output] = []
    advice: list[str] = []
    for setup in _setup_files(root, specs, output):
        path = root / setup.path
        existing = _read_text(path)
        if existing is None:
            outputs.append(Output(path, setup.text, None, "missing"))
        elif re.search(setup.pattern, existing, re.MULTILINE):
            print_status(f"{path}: has it already")
        elif setup.may_be_added:
            gap = "" if not existing or existing.endswith("\n") else "\n"
            blank = "\n" if existing and setup.path.endswith(".toml") else ""
            outputs.append(Output(path, f"{existing}{gap}{blank}{setup.text}", existing, "differs"))
        else:
            advice.append(f"{path} is there already; add to it:\n\n{setup.text}\n")
    write_outputs(outputs)
    for output_file in outputs:
        print_status(
            f"{output_file.path}: {'written' if output_file.before is None else 'extended'}"
        )
    for text in advice:
        print_result(text)
    print_status("next: metanorm compile")


def _setup_files(root: Path, specs: str, output: str) -> Iterator[SetupFile]:
    yield SetupFile(
        "pyproject.toml", CONFIGURATION.format(specs=specs, out=output), r"^\[tool\.metanorm\]"
    )
    if not any((root / specs).rglob("*.norm")):
        yield SetupFile(f"{specs}/my_norm.norm", TEMPLATE.format(name="MyNorm"), "^norm ", False)
    attributes = ATTRIBUTES.format(out=output)
    yield SetupFile(".gitattributes", attributes, f"^{re.escape(attributes.strip())}$")
    config = root / ".pre-commit-config.yaml"
    text = HOOK if config.exists() else HOOKS.format(hooks=HOOK)
    yield SetupFile(config.name, text, r"id: metanorm-", False)
    workflow = WORKFLOW.format(version=__version__)
    yield SetupFile(".github/workflows/norms.yml", workflow, "metanorm compile --check", False)


def _read_text(path: Path) -> str | None:
    """The text of a file; `None` where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"cannot read `{path}`: {error}") from error
