"""The norms that ship with metanorm, by what they compute."""

from __future__ import annotations

from metanorm import frontend
from metanorm.ir.fingerprint import fingerprint
from metanorm.passes.pipeline import optimize
from metanorm.workspace import Workspace


def norms_by_fingerprint(library: Workspace) -> dict[str, str]:
    """The name of each norm of the library by its fingerprint."""
    checked = frontend.check(library.sources, library.roots)
    return {
        fingerprint(optimize(norm.program)): norm.program.name
        for root in library.roots
        for norm in checked.norms[root]
    }
