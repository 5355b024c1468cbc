"""Groupings: what stands behind the axis of a pool, as in `C: blocks(g)`, to an IR grouping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from metanorm.diagnostics.calls import UnknownArgument
from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.pools import BadMatrixArgument, UnknownMatrix, WrongAxis
from metanorm.diagnostics.segments import NoOffsets
from metanorm.diagnostics.suggest import listing
from metanorm.ir.aggregation import ByIndex, Causal, Dense, Grouping, Neighbours, Ones, Window
from metanorm.ir.nodes import Draw
from metanorm.ir.ops import MATRICES
from metanorm.ir.partitions import REGULAR, RegularPartition
from metanorm.ir.program import Divisible
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.lowering import UNKNOWN, CallScope, Lowering
from metanorm.semantics.values import POISON, PoolOnly, Tensor
from metanorm.syntax import ast

EDGES = ("truncate", "zero", "replicate")


def _of_size(kind: Callable[[Scalar], Grouping]) -> Callable[[Scalar | None, str], Grouping]:
    """A row for a grouping that always has a number."""

    def grouping(size: Scalar | None, edge: str) -> Grouping:
        assert size is not None
        return kind(size)

    return grouping


def _window(size: Scalar | None, edge: str) -> Grouping:
    assert size is not None
    return Window(size, edge)


# The groupings that a spec can name: from the number and the edge in the spec to the grouping.
GROUPINGS: Mapping[str, Callable[[Scalar | None, str], Grouping]] = {
    **{name: _of_size(kind) for name, kind in REGULAR.items()},
    "window": _window,
    "causal": lambda size, edge: Causal(size),
}
assert GROUPINGS.keys() == MATRICES.keys(), GROUPINGS.keys() ^ MATRICES.keys()


class GroupingLowering:
    """Lowers the groupings of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems

    def grouping(self, item: ast.PoolAxis, axes: tuple[str, ...]) -> Grouping | None:
        """The grouping of one axis; `None` after a report."""
        matrix = item.matrix
        if matrix is None:
            return Ones()
        built = (
            self._named_grouping(matrix, axes[0] if axes else "")
            if matrix.name in MATRICES
            else self._grouping_of_value(matrix, item, axes or ("",))
        )
        if built is None:
            return None
        if len(axes) != 1 or item.axis.variadic:
            shown = f"*{item.axis.name}" if item.axis.variadic else item.axis.name
            reason = "it stands for several axes"
            hint = "name the axis in the `input`: `x[N, C, H, W]`"
            if axes and not item.axis.variadic:
                reason = f"it is cut into {listing(axes)}"
                hint = f"pool one of these, or several, by name: `over {axes[-1]}`"
            self.problems.add(WrongAxis(matrix.span, matrix.name, shown, reason, hint))
            return None
        if isinstance(built, RegularPartition):
            check = Divisible(axes[0], built.number)
            if not self._check_divides(check, matrix):
                return None
            if check not in self.low.checks:
                self.low.checks.append(check)
        return built

    def _check_divides(self, check: Divisible, matrix: ast.Matrix) -> bool:
        """Whether a split divides the length of an axis, if the spec says both; reports if not."""
        size, by = self.low.table.space[check.axis].size, check.by
        if not (isinstance(size, Const) and isinstance(by, Const)) or size.value % by.value == 0:
            return True
        reason = f"cannot cut axis `{check.axis}`, whose length is {size.value:g}"
        hint = f"give `{check.axis}` a length that is a multiple of {by.value:g}"
        self.problems.add(BadMatrixArgument(matrix.span, matrix.name, reason, hint))
        return False

    def _named_grouping(self, matrix: ast.Matrix, axis: str) -> Grouping | None:
        keywords = {a.name: a for a in matrix.arguments if isinstance(a, ast.Keyword)}
        numbers = [a for a in matrix.arguments if not isinstance(a, ast.Keyword)]
        edge = self._edge(matrix, keywords)
        if matrix.extra is not None:
            self.problems.add(
                UnknownArgument(matrix.extra.span, matrix.extra.name, matrix.name, ())
            )
        if not self._may_stay_within(matrix):
            return None
        row = MATRICES[matrix.name]
        if not row.min_arguments <= len(numbers) <= 1:
            hint = f"it is written `{row.usage}`"
            self.problems.add(BadMatrixArgument(matrix.span, matrix.name, "takes one number", hint))
            return None
        size = self._positive_integer(numbers[0], matrix) if numbers else None
        if numbers and size is None:
            return None
        grouping = GROUPINGS[matrix.name](size, edge)
        if isinstance(grouping, (Window, Causal)):
            return self._within_segments(grouping, matrix, axis)
        return grouping

    def _may_stay_within(self, matrix: ast.Matrix) -> bool:
        """Whether pools of this kind can be kept within segments, if the spec asks for that."""
        if matrix.within is None:
            return True
        offsets, name = matrix.within.name, matrix.name
        if name not in ("window", "causal"):
            hint = f"`causal within {offsets}` and `window(k) within {offsets}` are"
            reason = "is not kept within segments"
            self.problems.add(BadMatrixArgument(matrix.within.span, name, reason, hint))
            return False
        edge = next((a for a in matrix.arguments if isinstance(a, ast.Keyword)), None)
        if edge is not None and getattr(edge.value, "name", "") in ("zero", "replicate"):
            hint = "leave the edge out: a window ends where its segment does"
            reason = "has no edge within a segment"
            self.problems.add(BadMatrixArgument(edge.span, name, reason, hint))
            return False
        return True

    def _within_segments(
        self, grouping: Window | Causal, matrix: ast.Matrix, axis: str
    ) -> Grouping | None:
        """The windows, kept within the segments that the spec names; `None` after a report."""
        within = matrix.within
        if within is None:
            return grouping
        entity = self.scope.names.find(within.name)
        value = entity.value if entity is not None else None
        if isinstance(value, PoolOnly) and value.what == "one group":
            return grouping
        if entity is not None and value is POISON:
            return None
        if not isinstance(value, Tensor) or not self.low.has_offsets(value.ref):
            known = tuple(n for n, e in self.scope.names if self._has_offsets(e.value))
            self.problems.add(NoOffsets(within.span, within.name, known, entity is not None))
            return None
        assert entity is not None
        if value.type.axes != (axis,):
            reason = f"its segments are of axis `{value.type.axes[0]}`"
            hint = f"pool that one within them: `{value.type.axes[0]}: causal within {within.name}`"
            problem = WrongAxis(
                within.span, within.name, self.low.table.shown(axis), reason, hint, entity.span
            )
            self.problems.add(problem)
            return None
        return replace(grouping, within=value.ref)

    def _has_offsets(self, value: object) -> bool:
        return isinstance(value, Tensor) and self.low.has_offsets(value.ref)

    def _edge(self, matrix: ast.Matrix, keywords: dict[str, ast.Keyword]) -> str:
        edge = "truncate"
        for name, keyword in keywords.items():
            if matrix.name != "window" or name != "edge":
                allowed = ("edge",) if matrix.name == "window" else ()
                self.problems.add(UnknownArgument(keyword.span, name, matrix.name, allowed))
            elif isinstance(keyword.value, ast.Name) and keyword.value.name in EDGES:
                edge = keyword.value.name
            else:
                hint = "the edges are `truncate`, `zero` and `replicate`"
                reason = "has no such edge"
                self.problems.add(BadMatrixArgument(keyword.value.span, "window", reason, hint))
        return edge

    def _positive_integer(self, expr: ast.Expr, matrix: ast.Matrix) -> Scalar | None:
        """A positive integer: a literal, or an integer hyperparameter; `None` after a report."""
        if isinstance(expr, ast.Missing):
            return None
        usage = MATRICES[matrix.name].usage
        if isinstance(expr, ast.Number):
            if expr.value >= 1 and expr.value == int(expr.value) and expr.value < 2**31:
                return Const(expr.value)
            reason, hint = "needs a positive whole number", f"it is written `{usage}`"
        elif isinstance(expr, ast.Negative):
            reason, hint = "needs a positive whole number", f"it is written `{usage}`"
        elif isinstance(expr, ast.Name) and self.scope.hyper_sorts.get(expr.name) == UNKNOWN:
            return None
        elif isinstance(expr, ast.Name) and expr.name in self.scope.hypers:
            self.scope.names.find(expr.name)
            if self.scope.hyper_sorts[expr.name] == "int":
                return self.scope.hypers[expr.name]
            reason = f"needs a whole number, and `{expr.name}` is not declared as one"
            hint = f"declare the hyperparameter as `{expr.name}: int`"
        elif isinstance(expr, ast.Name) and self.scope.names.find(expr.name) is None:
            self.problems.add(UnknownName(expr.span, expr.name, tuple(self.scope.hypers)))
            return None
        else:
            reason = "needs a number that is known when the module is constructed"
            hint = "write a whole number, or the name of a hyperparameter such as `groups: int`"
        self.problems.add(BadMatrixArgument(expr.span, matrix.name, reason, hint))
        return None

    def _grouping_of_value(
        self, matrix: ast.Matrix, item: ast.PoolAxis, axes: tuple[str, ...]
    ) -> Grouping | None:
        """The grouping of an index, an edge list or a matrix, by name; `None` after a report."""
        entity = self.scope.names.find(matrix.name)
        value = entity.value if entity else None
        if matrix.parenthesised:
            entity = value = None
        if isinstance(value, PoolOnly) and entity is not None:
            if (value.axis,) != axes:
                reason = f"it is declared on axis `{value.axis}`"
                hint = f"pool that one with it: `{value.axis}: {matrix.name}`"
                problem = WrongAxis(
                    matrix.span, matrix.name, item.axis.name, reason, hint, entity.span
                )
                self.problems.add(problem)
                return None
            return self._grouping_of_pool_only(matrix, value)
        if isinstance(value, Tensor) and value.type.kind == "int" and entity is not None:
            if isinstance(self.low.ops[value.ref], Draw):
                reason = "it has each position once, so that no two are pooled"
                hint = f"a permutation orders positions: `x[{matrix.name}]`"
                problem = WrongAxis(
                    matrix.span, matrix.name, item.axis.name, reason, hint, entity.span
                )
                self.problems.add(problem)
                return None
            if value.type.axes != axes:
                shown = ", ".join(value.type.axes)
                reason = f"it is an index on `{shown}`" if shown else "it is a single index"
                hint = "an index that pools stands on one axis"
                if len(value.type.axes) == 1:
                    hint = f"pool that one with it: `{shown}: {matrix.name}`"
                problem = WrongAxis(
                    matrix.span, matrix.name, item.axis.name, reason, hint, entity.span
                )
                self.problems.add(problem)
                return None
            return ByIndex(value.ref)
        if entity is not None and not isinstance(value, (Tensor, PoolOnly)):
            return None  # it has an error, which its introduction has reported
        names = [n for n, e in self.scope.names if _can_pool(e.value)]
        known_names = (*MATRICES, *names)
        self.problems.add(UnknownMatrix(matrix.span, matrix.name, known_names, entity is not None))
        return None

    def _grouping_of_pool_only(self, matrix: ast.Matrix, value: PoolOnly) -> Grouping | None:
        extra = matrix.extra
        if value.what == "one group":
            return Ones()
        if value.what == "edges":
            if extra is not None and extra.name != "self":
                self.problems.add(UnknownArgument(extra.span, extra.name, matrix.name, ("self",)))
            return Neighbours(value.name, extra is not None)
        if extra is not None:
            self.problems.add(UnknownArgument(extra.span, extra.name, matrix.name, ()))
        return Dense(value.name)


def _can_pool(value: object) -> bool:
    return isinstance(value, PoolOnly) or (isinstance(value, Tensor) and value.type.kind == "int")
