"""MN0705: windows and pasts that ignore the groups of an index."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.lints import CrossesGroups
from metanorm.diagnostics.model import Problem
from metanorm.ir.program import Program
from metanorm.semantics.crossing_groups import crossings
from metanorm.semantics.lowering import CallScope, Lowering


def crossing_groups(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """A warning for each pool that reaches into other groups."""
    for crossing in crossings(low, offsets=False):
        yield CrossesGroups(*crossing)
