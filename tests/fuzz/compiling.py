"""What must hold of every text, right or wrong: no exception, and what `check` accepts compiles."""

from __future__ import annotations

import ast
import traceback
from dataclasses import dataclass
from typing import get_args

from metanorm.diagnostics.render.text import render_text
from metanorm.driver import compile_specs
from metanorm.frontend import check, format_spec
from metanorm.options import Options, Target
from metanorm.source import Source
from metanorm.workspace import load_library

LIBRARY = load_library()
NAME = "fuzzed.norm"
TARGETS: tuple[Target, ...] = get_args(Target)


def files_of(text: str, verify_passes: bool = True) -> dict[str, str] | None:
    """The files of all targets; `None` where `check` reports an error. Raises on a fault."""
    source = Source.of(NAME, text)
    sources = {**LIBRARY.sources, NAME: source}
    checked = check(sources, [NAME])
    for diagnostic in checked.diagnostics:
        end = len(sources[diagnostic.primary.span.source].text)
        assert 0 <= diagnostic.primary.span.start <= diagnostic.primary.span.end <= end, diagnostic
    told = render_text(checked.diagnostics, sources)
    formatted, problems = format_spec(source)
    if not problems:
        assert format_spec(Source.of(NAME, formatted)) == (formatted, ()), "fmt is not final"
    if not checked.ok:
        assert told
        return None
    files: dict[str, str] = {}
    for target in TARGETS:
        options = Options(target=target, verify_passes=verify_passes)
        result = compile_specs(sources, [NAME], options)
        assert result.ok, (target, [d.message for d in result.diagnostics])
        files |= {f"{target}/{name}": file for name, file in result.files.items()}
        for name, file in result.files.items():
            if name.endswith(".py"):
                ast.parse(file, name)
    return files


@dataclass(frozen=True)
class Outcome:
    """What became of a text."""

    files: dict[str, str]  # of all targets; none where `check` reports an error
    fault: str = ""  # what is wrong with the compiler, as the text shows: the place it comes from


def outcome_of(text: str) -> Outcome:
    """The files of a text, or the fault of the compiler that it shows."""
    try:
        return Outcome(files_of(text) or {})
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/metanorm/')[2]}:{last.lineno} {last.name}"
        return Outcome({}, f"{where}: {type(error).__name__}: {str(error)[:200]}")
