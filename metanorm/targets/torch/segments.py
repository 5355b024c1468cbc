"""Print how offsets in a call become what functions take: the segment of each position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from metanorm.ir.program import InputDecl, Program
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name, Stmt
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.layout import call


@dataclass(frozen=True)
class Segments:
    """The statements that find segments, and the arguments of functions by their parameters."""

    statements: Sequence[Stmt] = ()
    arguments: Mapping[str, Expr] = field(default_factory=dict)


def segments_of_call(program: Program, local: Callable[[str], str]) -> Segments:
    """How a method finds the segments of its offsets. `local` makes names of local variables."""
    with_offsets = [decl for decl in program.inputs if decl.offsets]
    if not with_offsets:
        return Segments()
    checks = CallChecks(program)
    checks.shapes()  # which finds out where lengths can be read
    statements: list[Stmt] = []
    arguments: dict[str, Expr] = {}
    for decl in with_offsets:
        variable = Name(local("segments" if len(with_offsets) == 1 else f"{decl.name}_segments"))
        statements.append(Assign((variable,), _segments(decl, program, checks)))
        arguments[decl.name] = variable
        arguments[f"{decl.name}_size"] = call("runtime.segment_count", Name(decl.name))
    return Segments(statements, arguments)


def _segments(decl: InputDecl, program: Program, checks: CallChecks) -> Expr:
    (axis,) = decl.dims
    first = Name(program.inputs[0].name)
    length, owner, name = checks.length(axis), Literal(program.name), Literal(decl.name)
    return call("runtime.segment_of_position", Name(decl.name), length, first, owner, name)
