"""Lowering of runs of positions of an axis: cuts, `x[I]`, and `concat`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.diagnostics.calls import WrongArguments
from metanorm.diagnostics.values import CannotLookUp, WrongKind
from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Concat, Expand, Piece
from metanorm.ir.ops import FORMS
from metanorm.ir.scalar import Const, Hyper, Scalar, apply
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.pools import LoweredPool
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.values import POISON, Tensor, Value
from metanorm.source import Span
from metanorm.syntax import ast


def cut_axis(statement: ast.AxisCut, scope: CallScope, low: Lowering) -> bool:
    """Lower a cut of an axis; false after a report."""
    names = [piece.axis.name for piece in statement.pieces]
    whole: str | None = statement.axis.name
    if scope.axes is None:
        whole = whole if whole in low.table.declared else None
    else:
        axes = scope.axes.get(statement.axis.name, ())
        whole = axes[0] if len(axes) == 1 else None
        names = [_free_name(name, names, low) for name in names]

    def size(piece: ast.Piece) -> Scalar | None:
        assert piece.size is not None
        what = f"the length of `{piece.axis.name}`"
        scalar = scalar_from_ast(piece.size, scope, low, what, fixes=False)
        if isinstance(scalar, Const) and (scalar.value < 0 or scalar.value != int(scalar.value)):
            hint = "a share of an axis is rounded down: `(I = 0.5 * size(C))`"
            expected = "a whole number of positions"
            low.problems.add(WrongKind(piece.size.span, "another number", expected, hint))
            return None
        if scalar is None or _is_whole(scalar, scope):
            return scalar
        return apply("floor", scalar)

    if not low.table.cut(statement, whole, size, names):
        return False
    if scope.axes is not None:
        scope.axes |= {p.axis.name: (name,) for p, name in zip(statement.pieces, names)}
    return True


def _free_name(name: str, names: Sequence[str], low: Lowering) -> str:
    while name in low.table.declared:
        name += "_"
    return name


def _is_whole(scalar: Scalar, scope: CallScope) -> bool:
    """Whether a length is a whole number as it is written. Others are rounded down."""
    match scalar:
        case Const(value):
            return value == int(value)
        case Hyper(name):
            return scope.hyper_sorts.get(name) == "int"
        case _:
            return False


def piece_named(subscript: ast.Expr, scope: CallScope, low: Lowering) -> str | None:
    """The piece that the I of `x[I]` names; `None` for a name of a value."""
    if not isinstance(subscript, ast.Name) or subscript.name in scope.names:
        return None
    axes = (subscript.name,) if scope.axes is None else scope.axes.get(subscript.name, ())
    if len(axes) != 1 or axes[0] not in low.table.declared:
        return None
    return axes[0] if low.table.space[axes[0]].piece_of is not None else None


def take_piece(value: Tensor, piece: str, subscript: ast.Expr, low: Lowering) -> Value:
    """Lower `x[I]`."""
    space = low.table.space
    whole, _ = space.cut(piece)
    if whole not in {space.base(axis) for axis in value.type.axes}:
        shown = [low.table.shown(a) for a in low.dims(value.type.axes) if "/" not in a]
        reason = f"the value has no axis `{whole}`, of which `{piece}` is a run of positions"
        hint = f"its axes are {', '.join(shown)}" if shown else "it is a single number"
        low.problems.add(CannotLookUp(subscript.span, reason, None, hint))
        return POISON
    if whole not in value.type.axes:  # values of cells
        value = low.emit(Expand(value.ref, (whole,)), subscript.span)
    return low.emit(Piece(value.ref, piece), subscript.span)


def concat(call: ast.Call, values: Sequence[Tensor | None], pool: LoweredPool | None,
           low: Lowering) -> Value:  # fmt: skip
    """Lower `concat(a, b over C)`: the values on the pieces of C, as one on C."""
    if pool is None or any(value is None for value in values):
        return POISON
    present = [value for value in values if value is not None]
    is_plain = len(pool.over) == 1 and isinstance(pool.over[0][1], Ones) and pool.is_unweighted
    axis = pool.over[0][0]
    cuts = low.table.cuts.get(axis, [])
    if not is_plain or not cuts:
        hint = "cut it first: `axis C = (I = half) + B`, then `concat(a, b over C)`"
        low.problems.add(WrongKind(call.span, "what has no runs of positions", "an axis", hint))
        return POISON
    pieces = next((cut for cut in cuts if _fits(cut, present, low)), cuts[0])
    if len(pieces) != len(present):
        problem = f"takes a value for each of {', '.join(pieces)}, and got {len(present) or 'none'}"
        usage = FORMS["concat"].usage
        low.problems.add(WrongArguments(call.span, "concat", usage, problem))
        return POISON
    joined: list[Tensor] = []
    for value, piece, expr in zip(present, pieces, call.arguments):
        if not _check_piece(value, piece, axis, expr.span, low):
            return POISON
        joined.append(_on(value, piece, expr.span, low))
    return low.emit(Concat(tuple(v.ref for v in joined), pieces, axis), call.span)


def _fits(cut: Sequence[str], values: Sequence[Tensor], low: Lowering) -> bool:
    """Whether values are on the pieces of this cut, in order."""
    if len(cut) != len(values):
        return False
    space = low.table.space
    bases = [{space.base(axis) for axis in value.type.axes} for value in values]
    return any(piece in axes for piece, axes in zip(cut, bases))


def _check_piece(value: Tensor, piece: str, axis: str, span: Span, low: Lowering) -> bool:
    """Whether a value may stand for a piece: it has no other one, nor the whole axis."""
    space = low.table.space
    bases = {space.base(a) for a in value.type.axes}
    others = [p for cut in low.table.cuts[axis] for p in cut if p != piece and p in bases]
    wrong = next(iter(others), axis if axis in bases else None)
    if wrong is None:
        return True
    hint = f"values come in the order of the runs of `{axis}`; `x[{piece}]` is one of `{piece}`"
    actual = f"a value on axis `{wrong}`"
    low.problems.add(WrongKind(span, actual, f"one on axis `{piece}`", hint))
    return False


def _on(value: Tensor, piece: str, span: Span, low: Lowering) -> Tensor:
    """The value on its piece: one that lacks it is the same for all of its positions."""
    if piece in value.type.axes:
        return value
    return low.emit(Expand(value.ref, (piece,)), span)
