"""`metanorm new`: writes a new spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metanorm import frontend
from metanorm.cli.console import print_error, print_status
from metanorm.cli.exit_codes import FINDINGS
from metanorm.diagnostics.model import Severity
from metanorm.module_names import module_name_problem
from metanorm.python_words import KEYWORDS
from metanorm.resources import library_specs, resource
from metanorm.semantics.naming import snake_case
from metanorm.workspace import (
    Output,
    WorkspaceError,
    load,
    unknown_name,
    write_outputs,
)

TEMPLATE = """\
# {name}: say in a line what it is, and where it comes from.
norm {name}(eps = 1e-5) {{
  input  x[N, C = num_features, *S]
  reduce *S
  affine C

  example x = [[[1, 3]]] gives [[[-1, 1]]]
}}
"""


def command(
    name: Annotated[str, typer.Argument(help="The name of the norm, such as MyNorm.")],
    folder: Annotated[str, typer.Option("--folder", "-d", help="Where to put it.")] = ".",
    like: Annotated[
        str | None, typer.Option(help="A spec of the library to copy, such as switch_norm.")
    ] = None,
) -> None:
    """Write a new spec, from a template or from a spec of the library."""
    if not name.isidentifier() or not name.isascii():
        raise WorkspaceError(f"`{name}` cannot be the name of a norm: use letters, digits and _")
    if {name, snake_case(name)} & KEYWORDS:
        raise WorkspaceError(f"`{name}` cannot be the name of a norm: it is a word of Python")
    reason = module_name_problem(snake_case(name))
    if reason:
        raise WorkspaceError(f"`{snake_case(name)}` {reason}: choose another name")
    path = Path(folder) / f"{snake_case(name)}.norm"
    if path.exists():
        print_error(f"{path} is there already, and was left as it is")
        raise typer.Exit(FINDINGS)
    text = TEMPLATE.format(name=name)
    if like is not None:
        library_names = [spec.removesuffix(".norm") for spec in library_specs()]
        if like.removesuffix(".norm") not in library_names:
            raise unknown_name(like, library_names, "spec in the library")
        file = resource("specs") / f"{like.removesuffix('.norm')}.norm"
        text = _rename_norm(file.read_text(encoding="utf-8"), name)
    _require_checked(path, text)
    write_outputs([Output(path, text, None, "missing")])
    print_status(f"{path}: written; next: metanorm compile {path} -o norms")


def _require_checked(path: Path, text: str) -> None:
    """Raise `WorkspaceError` if `metanorm check` has an error for the spec that is to be written.

    What is written has no other errors than those of the name.
    """
    spec = path.as_posix()
    workspace = load([spec], texts={spec: text})
    checked = frontend.check(workspace.sources, workspace.roots)
    for diagnostic in (*workspace.diagnostics, *checked.diagnostics):
        if diagnostic.severity is Severity.ERROR:
            raise WorkspaceError(f"{diagnostic.message}: choose another name")


def _rename_norm(text: str, name: str) -> str:
    """The first norm of a spec under a new name."""
    lines = text.split("\n")
    for position, line in enumerate(lines):
        if line.startswith("norm "):
            old = line.removeprefix("norm ").split("(")[0].split(" ")[0]
            lines[position] = line.replace(f"norm {old}", f"norm {name}", 1)
            break
    return "\n".join(lines)
