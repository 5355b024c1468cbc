"""How large a norm may be. What no normalizer needs would only use up the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.diagnostics.structure import TooLarge
from metanorm.semantics.calls import MOST_CALLS
from metanorm.semantics.lowering import CallableNorm
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.syntax import ast

MOST_AXES = 32
MOST_DECLARATIONS = 1000
MOST_NORMS = 100
MOST_VALUES = 3000  # of a norm that calls others, those included
MOST_VALUES_OF_ALL = 60_000

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
    """What there is too much of in a norm, at the place where it becomes too much."""
    axes: set[str] = set()
    declarations = 0
    for node in nodes_in(norm):
        if isinstance(node, (ast.Dim, ast.Rename)):
            axes.add(node.axis.name if isinstance(node, ast.Dim) else node.new.name)
            if len(axes) > MOST_AXES:
                return TooLarge(node.span, MOST_AXES, "axes")
        elif isinstance(node, DECLARATIONS):
            declarations += 1
            if declarations > MOST_DECLARATIONS:
                return TooLarge(node.span, MOST_DECLARATIONS, "declarations")
    return None


def too_many(norms: tuple[ast.Norm, ...]) -> TooLarge | None:
    """The norm of a file that is one too many."""
    if len(norms) <= MOST_NORMS:
        return None
    return TooLarge(norms[MOST_NORMS].name.span, MOST_NORMS, "norms", "this file")


@dataclass(frozen=True)
class Size:
    """How many values a norm computes, how deep its calls are inside each other, and the call
    that makes it too large."""

    values: int = 0
    depth: int = 0
    problem: TooLarge | None = None


class Sizes:
    """How much the norms of one run compute, with all that they call, before they are lowered."""

    def __init__(self) -> None:
        self.total = 0
        self.known: dict[int, Size] = {}
        self.kept: list[ast.Norm] = []  # as long as their identity stands for them

    def too_large(self, norm: ast.Norm, others: Mapping[str, CallableNorm]) -> TooLarge | None:
        """The call that makes a norm too large, or the whole run."""
        size = self._size(CallableNorm(norm, others))
        self.total += size.values
        if size.problem is None and self.total > MOST_VALUES_OF_ALL:
            return TooLarge(norm.name.span, MOST_VALUES_OF_ALL, "values", "all that is compiled")
        return size.problem

    def _size(self, norm: CallableNorm) -> Size:
        """The size of a norm. Without recursion: calls may be in each other very deep."""
        waiting, begun = [norm], set[int]()
        while waiting:
            equations = waiting[-1].equations
            if equations is None or id(equations) in self.known:
                waiting.pop()
            elif id(equations) not in begun:
                begun.add(id(equations))
                self.kept.append(equations)
                known = _callable(equations, waiting[-1].others)
                called = (_called(node, known) for node in nodes_in(equations))
                waiting += [c for c in called if c is not None and id(c.equations) not in begun]
            else:
                self.known[id(equations)] = self._sum(equations, waiting.pop().others)
        return self.known.get(id(norm.equations), Size())

    def _sum(self, norm: ast.Norm, others: Mapping[str, CallableNorm]) -> Size:
        """The size of a norm, where those of the norms that it calls are known.

        One that is not known is part of a circle, which is reported where it is lowered.
        """
        values, depth = 0, 1
        others = _callable(norm, others)
        for node in nodes_in(norm):
            values += _values(node)
            called = _called(node, others)
            if called is None:
                continue
            size = self.known.get(id(called.equations), Size())
            values, depth = values + size.values, max(depth, size.depth + 1)
            if size.problem is not None:
                return size
            if depth > MOST_CALLS:
                problem = TooLarge(node.span, MOST_CALLS, "calls inside each other")
                return Size(values, depth, problem)
            if values > MOST_VALUES:
                return Size(values, depth, TooLarge(node.span, MOST_VALUES, "values"))
        return Size(values, depth)


def _callable(norm: ast.Norm, others: Mapping[str, CallableNorm]) -> Mapping[str, CallableNorm]:
    """What a norm can call: others, and a `let` that is a call of one."""
    lets = {
        statement.name.name: others[statement.value.function.name]
        for statement in norm.statements
        if isinstance(statement, ast.Let)
        and isinstance(statement.value, ast.Call)
        and statement.value.function.name in others
    }
    return {**others, **lets}


def _called(node: ast.Node, others: Mapping[str, CallableNorm]) -> CallableNorm | None:
    return others.get(node.function.name) if isinstance(node, ast.Call) else None


def _values(node: ast.Node) -> int:
    """How many values an expression computes, apart from those of its parts."""
    if isinstance(node, ast.Chain):
        return len(node.operators)
    return isinstance(node, (ast.Call, ast.Power, ast.Negative, ast.Compare, ast.Index))
