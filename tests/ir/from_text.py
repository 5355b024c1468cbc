"""Programs from the lines of a norm, for tests of what is computed over whole programs."""

from __future__ import annotations

from textwrap import dedent

from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.source import Source


def from_lines(text: str, arguments: str = "eps = 1e-5") -> Program:
    """The program of a norm with these lines."""
    whole = f"norm T({arguments}) {{\n{dedent(text)}\n}}\n"
    checked = check({"t.norm": Source.of("t.norm", whole)}, ["t.norm"])
    assert checked.ok, checked.diagnostics
    return checked.norms["t.norm"][0].program
