"""Print the checks that parameters and buffers have their declared shapes.

A user may have replaced a tensor, and torch would silently broadcast one that is too short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metanorm.ir.program import BufferDecl, ParamDecl, Program
from metanorm.targets.python.pyir import Expr, ExprStmt, If, Literal, Name, Stmt
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.layout import call, integer


def demand_declared_shapes(program: Program) -> list[Stmt]:
    """A check for all tensors on the same axes. Lengths come from inputs and arguments."""
    checks = CallChecks(program, owner="")
    checks.shapes()  # records where lengths can be read
    return [
        ExprStmt(call("runtime.demand_shapes", checks.shape(dims), **names))
        for dims, names in _on_axes(program).items()
    ]


def demand_declared_ranks(program: Program) -> list[Stmt]:
    """Checks of ranks alone, so that later checks can read the lengths of dimensions."""
    space = program.index.space
    demands: list[Stmt] = []
    for dims, names in _on_axes(program).items():
        single = [dim for dim in dims if not space[dim].variadic]
        if single:
            function = "demand_ranks" if len(single) == len(dims) else "demand_min_ranks"
            demands.append(ExprStmt(call(f"runtime.{function}", integer(len(single)), **names)))
    return demands


def demand_drawn(program: Program) -> list[Stmt]:
    """The demand for random numbers, which whoever calls the function in training gives."""
    names = {decl.name: Name(decl.name) for decl in program.drawn_inputs}
    if not names or program.target not in ("activation", "loss"):
        return []
    demand = ExprStmt(call("runtime.demand_drawn", Literal(program.name), **names))
    return [If(Name("training"), (demand,))]


def _on_axes(program: Program) -> Mapping[tuple[str, ...], Mapping[str, Expr]]:
    """Parameters and buffers, grouped by their axes."""
    tensors_by_dims: dict[tuple[str, ...], dict[str, Expr]] = {}
    decls: Iterable[ParamDecl | BufferDecl] = (*program.params, *program.buffers)
    for decl in decls:
        tensors_by_dims.setdefault(decl.dims, {})[decl.name] = Name(decl.name)
    return tensors_by_dims
