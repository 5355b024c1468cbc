"""`metanorm repro`: writes all that a bug report needs into one text."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from metanorm import driver, frontend
from metanorm.cli.console import print_file, print_status
from metanorm.cli.context import start_run
from metanorm.cli.version import versions
from metanorm.diagnostics.render.text import render_text
from metanorm.options import Options, Target
from metanorm.resources import LIBRARY, PACKAGE
from metanorm.source import Source
from metanorm.visible import visible_lines
from metanorm.workspace import STDIN, Workspace, write_bytes

MAX_FRAMES = 40
FENCE = "`" * 4  # a spec may hold three


def command(
    specs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, or - for standard input.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file to write; - prints it.")
    ] = STDIN,
) -> None:
    """Gather what a bug report needs: specs, versions, and how far the compiler comes with them.

    The text names no folders of this machine and no user. Read it before you send it: it has your
    specs, with what they use.
    """
    run = start_run()
    workspace = run.workspace(specs or [])
    text = visible_lines("\n".join(report(workspace, run.config.options())))
    if output == STDIN:
        print_file(text)
    else:
        write_bytes(Path(output), text.encode())
        print_status(f"{output}: written")


def report(workspace: Workspace, options: Options) -> Iterator[str]:
    """The parts of the text, which is Markdown."""
    yield "# What metanorm was asked to compile\n"
    system = f"{platform.system()} {platform.machine()}"
    facts = [*versions().items(), ("system", system), ("options", options.fingerprint())]
    yield "\n".join(f"- {name}: {value}" for name, value in facts) + "\n"
    short_names = _short_names(workspace)
    for name, source in workspace.sources.items():
        if not name.startswith(LIBRARY):
            yield f"## {short_names[name]}\n\n{FENCE}norm\n{source.text.rstrip()}\n{FENCE}\n"
    sources = {new: replace(workspace.sources[old], name=new) for old, new in short_names.items()}
    roots = [short_names[root] for root in workspace.roots]
    check_output = _attempt(partial(_check_text, sources, roots))
    yield f"## metanorm check\n\n{FENCE}text\n{check_output}{FENCE}\n"
    for target in get_args(Target):
        compile_output = _attempt(partial(_compile_text, sources, roots, Options(target=target)))
        yield f"## metanorm compile --target {target}\n\n{FENCE}text\n{compile_output}{FENCE}\n"


def _short_names(workspace: Workspace) -> dict[str, str]:
    """The names of sources relative to the folder that holds them all."""
    names = [name for name in workspace.sources if not name.startswith(LIBRARY)]
    parent = (
        os.path.commonpath([os.path.abspath(os.path.dirname(n)) for n in names]) if names else ""
    )
    short_names = {
        name: Path(os.path.relpath(os.path.abspath(name), parent)).as_posix() for name in names
    }
    return {name: short_names.get(name, name) for name in workspace.sources}


def _check_text(sources: Mapping[str, Source], roots: list[str]) -> str:
    diagnostics = frontend.check(sources, roots).diagnostics
    return render_text(diagnostics, sources) if diagnostics else "no problems\n"


def _compile_text(sources: Mapping[str, Source], roots: list[str], options: Options) -> str:
    result = driver.compile_specs(sources, roots, options)
    if not result.files:
        return f"{len(result.diagnostics)} problems, no files\n"
    return "".join(
        f"{name}: {len(text.splitlines())} lines\n" for name, text in sorted(result.files.items())
    )


def _attempt(task: Callable[[], str]) -> str:
    """The output of a task; if the compiler fails, the traceback."""
    before = os.environ.get("METANORM_DEBUG")
    os.environ["METANORM_DEBUG"] = "1"  # errors of the compiler come through as they are
    try:
        return task()
    except Exception as error:
        return _traceback(error)
    finally:
        if before is None:
            del os.environ["METANORM_DEBUG"]
        else:
            os.environ["METANORM_DEBUG"] = before


def _traceback(error: Exception) -> str:
    """The traceback. Files of metanorm have relative paths, others their names alone."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        is_ours = path.is_relative_to(PACKAGE)
        name = path.relative_to(PACKAGE.parent).as_posix() if is_ours else path.name
        lines.append(f"{name}, line {frame.lineno}, in {frame.name}\n  {frame.line}\n")
    if len(lines) > MAX_FRAMES:  # of a recursion without end
        half = MAX_FRAMES // 2
        lines[half:-half] = [f"... {len(lines) - MAX_FRAMES} more\n"]
    return "".join((*lines, f"{type(error).__name__}: {error}\n"))
