"""Clauses mean the equations they stand for: written out and read again, nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LIBRARY, ROOT

from metanorm.frontend import check
from metanorm.ir.dump import program_text
from metanorm.ir.program import Program
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.workspace import load

SPECS = [
    path
    for folder in ("specs", "tests/good/features", "tests/good/language")
    for path in sorted((ROOT / folder).glob("*.norm"))
]


def clauses(norm: ast.Norm) -> set[str]:
    """The kinds of statements in a norm."""
    return {type(statement).__name__ for statement in norm.statements}


def programs(text: str, beside: Path) -> dict[str, Program]:
    """The programs of a text that stands where a spec does."""
    name = str(beside)
    sources = {**LIBRARY.sources, **load([name]).sources, name: Source.of(name, text)}
    checked = check(sources, [name])
    assert checked.ok, checked.diagnostics
    return {norm.program.name: norm.program for norm in checked.norms[name]}


@pytest.mark.parametrize("path", SPECS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_equations_give_the_program_of_the_clauses(path: Path) -> None:
    specs = load([str(path)])
    norms = check(specs.sources, specs.roots).norms[specs.roots[0]]
    uses = [line for line in path.read_text().splitlines() if line.startswith("use ")]
    lines = [line for norm in norms for line in norm_lines(norm.equations)]
    lowered_programs = programs("\n".join([*uses, *lines]) + "\n", path)
    assert {n: program_text(p) for n, p in lowered_programs.items()} == {
        norm.program.name: program_text(norm.program) for norm in norms
    }


def test_equations_hold_no_clauses() -> None:
    specs = load([str(ROOT / "specs/switch_norm.norm")])
    norm, *_ = check(specs.sources, specs.roots).norms[specs.roots[0]]
    assert {"Stat", "Mix"} & clauses(norm.norm)
    assert not {"Stat", "Mix", "Reduce", "Track", "AffineClause"} & clauses(norm.equations)
