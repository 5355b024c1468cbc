"""Limits on the size of a norm, beyond what any normalizer needs, so that compilation ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.diagnostics.structure import TooLarge
from metanorm.semantics.calls import MAX_CALL_DEPTH
from metanorm.semantics.lowering import CallableNorm
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.syntax import ast

MAX_AXES = 32
MAX_DECLARATIONS = 1000
MAX_NORMS = 100
MAX_VALUES = 3000  # of a norm that calls others, those included
MAX_VALUES_IN_ALL = 60_000

DECLARATIONS = (
    ast.Hyper,
    ast.InputItem,
    ast.ParamItem,
    ast.BufferItem,
    ast.OutputItem,
    ast.Stat,
    ast.Tracked,
    ast.Affine,
)


def too_large(norm: ast.Norm) -> TooLarge | None:
    """The problem of a norm with too many axes or declarations, at the first one too many."""
    axes: set[str] = set()
    declarations = 0
    for node in nodes_in(norm):
        if isinstance(node, (ast.Dim, ast.Rename)):
            axes.add(node.axis.name if isinstance(node, ast.Dim) else node.new.name)
            if len(axes) > MAX_AXES:
                return TooLarge(node.span, MAX_AXES, "axes")
        elif isinstance(node, DECLARATIONS):
            declarations += 1
            if declarations > MAX_DECLARATIONS:
                return TooLarge(node.span, MAX_DECLARATIONS, "declarations")
    return None


def too_many(norms: tuple[ast.Norm, ...]) -> TooLarge | None:
    """The problem of a file with too many norms, at the first one too many."""
    if len(norms) <= MAX_NORMS:
        return None
    return TooLarge(norms[MAX_NORMS].name.span, MAX_NORMS, "norms", "this file")


@dataclass(frozen=True)
class Size:
    """The size of a norm: its number of values, and the depth of its nested calls.

    `problem` is at the call that makes it too large.
    """

    values: int = 0
    depth: int = 0
    problem: TooLarge | None = None


class Sizes:
    """The sizes of the norms of one run, with all that they call, before they are lowered."""

    def __init__(self) -> None:
        self.total = 0
        self.size_by_norm: dict[int, Size] = {}
        self.norms: list[ast.Norm] = []  # keeps alive the norms whose `id` is a key

    def too_large(self, norm: ast.Norm, others: Mapping[str, CallableNorm]) -> TooLarge | None:
        """The problem of the call that makes a norm, or the whole run, too large."""
        size = self._size(CallableNorm(norm, others))
        self.total += size.values
        if size.problem is None and self.total > MAX_VALUES_IN_ALL:
            return TooLarge(norm.name.span, MAX_VALUES_IN_ALL, "values", "all that is compiled")
        return size.problem

    def _size(self, norm: CallableNorm) -> Size:
        """The size of a norm. No recursion: calls may be nested very deep."""
        stack, visited = [norm], set[int]()
        while stack:
            equations = stack[-1].equations
            if equations is None or id(equations) in self.size_by_norm:
                stack.pop()
            elif id(equations) not in visited:
                visited.add(id(equations))
                self.norms.append(equations)
                callable_norms = _callable_norms(equations, stack[-1].others)
                callees = (_callee(node, callable_norms) for node in nodes_in(equations))
                stack += [c for c in callees if c is not None and id(c.equations) not in visited]
            else:
                self.size_by_norm[id(equations)] = self._computed_size(
                    equations, stack.pop().others
                )
        return self.size_by_norm.get(id(norm.equations), Size())

    def _computed_size(self, norm: ast.Norm, others: Mapping[str, CallableNorm]) -> Size:
        """The size of a norm, from the sizes of the norms that it calls.

        A norm without a size is part of a circle, which the lowering reports.
        """
        values, depth = 0, 1
        others = _callable_norms(norm, others)
        for node in nodes_in(norm):
            values += _value_count(node)
            callee = _callee(node, others)
            if callee is None:
                continue
            size = self.size_by_norm.get(id(callee.equations), Size())
            values, depth = values + size.values, max(depth, size.depth + 1)
            if size.problem is not None:
                return size
            if depth > MAX_CALL_DEPTH:
                problem = TooLarge(node.span, MAX_CALL_DEPTH, "calls inside each other")
                return Size(values, depth, problem)
            if values > MAX_VALUES:
                return Size(values, depth, TooLarge(node.span, MAX_VALUES, "values"))
        return Size(values, depth)


def _callable_norms(
    norm: ast.Norm, others: Mapping[str, CallableNorm]
) -> Mapping[str, CallableNorm]:
    """The norms that a norm can call: others, and a `let` that is a call of one."""
    lets = {
        statement.name.name: others[statement.value.function.name]
        for statement in norm.statements
        if isinstance(statement, ast.Let)
        and isinstance(statement.value, ast.Call)
        and statement.value.function.name in others
    }
    return {**others, **lets}


def _callee(node: ast.Node, others: Mapping[str, CallableNorm]) -> CallableNorm | None:
    return others.get(node.function.name) if isinstance(node, ast.Call) else None


def _value_count(node: ast.Node) -> int:
    """The number of values that an expression computes, without those of its parts."""
    if isinstance(node, ast.Chain):
        return len(node.operators)
    return isinstance(node, (ast.Call, ast.Power, ast.Negative, ast.Compare, ast.Index))
