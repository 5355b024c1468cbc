"""What the torch target cannot print yet, at its place in the spec."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.targets import NotSupported
from metanorm.ir.aggregation import Causal, Dense, Matrix, Neighbours, Window
from metanorm.ir.nodes import Along, Count, Let, Pool, Program, Repeat

MATRICES: dict[type[Matrix], str] = {
    Window: "a pool over windows",
    Causal: "a causal pool",
    Neighbours: "a pool over the edges of a graph",
}


def unsupported(program: Program) -> Iterator[Problem]:
    """One problem for each part of an optimised program that cannot be printed."""
    for let in program.body:
        what = _what(let)
        if what:
            yield NotSupported(let.span, what)


def _what(let: Let) -> str:
    match let.op:
        case Repeat():
            return "`repeat`"
        case Along("sparsestmax"):
            return "`sparsestmax`"
        case Pool() | Count():
            for _, matrix in let.op.over:
                if type(matrix) in MATRICES:
                    return MATRICES[type(matrix)]
            if any(isinstance(matrix, Dense) for _, matrix in let.op.over):
                return _dense(let.op)
    return ""


def _dense(op: Pool | Count) -> str:
    """Given matrices pool means and variances, one axis at a time: `share` sees to that."""
    single = len(op.over) == 1 and isinstance(op, Pool) and op.statistic in ("mean", "var")
    plain = op.where is None and op.weight is None
    if single and plain:
        return ""
    if not plain:
        return "`where` or `weight` in a pool with a given matrix"
    statistic = op.statistic if isinstance(op, Pool) else "count"
    return f"`{statistic}` over a given matrix"
