"""What the torch target cannot print yet, at its place in the spec."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.targets import NotSupported
from metanorm.ir.nodes import Program
from metanorm.source import Span

TARGETS = {
    "weight": "a norm for weights",
    "gradient": "a norm for gradients",
    "loss": "a norm for a loss",
}


def unsupported(program: Program, span: Span) -> Iterator[Problem]:
    """One problem for each part of an optimised program that cannot be printed."""
    if program.target in TARGETS:
        yield NotSupported(span, TARGETS[program.target])
