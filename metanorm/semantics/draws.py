"""Random numbers: initial values that are drawn, and draws that stand where they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import MisplacedDraw, UnknownArgument, WrongArguments, WrongKind
from metanorm.ir.nodes import Draw, Eye, Init, Let, Repeat
from metanorm.ir.ops import DRAWS
from metanorm.ir.scalar import Const
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.pools import PoolLowering
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.source import Span
from metanorm.syntax import ast

# What must hold of the two arguments of a distribution, and what is said where it does not.
DEMANDED: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "normal": (lambda mean, std: std >= 0, "needs a deviation that is not negative"),
    "uniform": (lambda low, high: low <= high, "needs the lower bound first"),
}


def initial_from_ast(expr: ast.Expr, scope: CallScope, low: Lowering, what: str) -> Init | None:
    """What a parameter or a buffer begins with, or `None` after a report: `eye` is a matrix."""
    if isinstance(expr, ast.Name) and expr.name == "eye" and "eye" not in scope.hypers:
        return Eye()
    if not (isinstance(expr, ast.Call) and expr.function.name in DRAWS):
        for inner in _draws_in(expr):
            hint = f"write `{DRAWS[inner.function.name].usage}` as the whole initial value"
            low.problems.add(MisplacedDraw(inner.span, inner.function.name, hint))
            return None
        return scalar_from_ast(expr, scope, low, what)
    if expr.over is not None or expr.per is not None:
        part = "over" if expr.over is not None else "per"
        _wrong(expr, f"takes no `{part}` here: its axes are those of what begins", low)
        return None
    return draw_from_ast(expr, scope, low)


def placed(init: Init, dims: tuple[str, ...], what: str, span: Span, low: Lowering) -> Init | None:
    """An initial value of a tensor on these dimensions; an identity matrix takes two of them."""
    if not isinstance(init, Eye):
        return init
    if len(dims) < 2:
        found = f"{what} on {listing(dims) or 'no axes'}"
        hint = "an identity matrix lies in the last two axes: `param w[C, D = n] = eye`"
        low.problems.add(WrongKind(span, found, "two axes or more", hint))
        return None
    return Eye(blocks=len(low.table.space.leaves(dims[-2])) > len(low.table.space.leaves(dims[-1])))


def draw_from_ast(call: ast.Call, scope: CallScope, low: Lowering) -> Draw | None:
    """A call of a distribution, without its axes."""
    row = DRAWS[call.function.name]
    given: dict[str, ast.Expr] = dict(zip(row.parameters, call.arguments))
    for keyword in call.keywords:
        if keyword.name not in row.parameters:
            known = tuple(row.parameters)
            low.problems.add(UnknownArgument(keyword.span, keyword.name, row.name, known))
            return None
        given[keyword.name] = keyword.value
    total = len(call.arguments) + len(call.keywords)
    if total != len(row.parameters) or len(given) != total:
        _wrong(call, f"takes {len(row.parameters)} arguments, and got {total or 'none'}", low)
        return None
    what = f"an argument of `{row.name}`"
    found = [scalar_from_ast(given[name], scope, low, what) for name in row.parameters]
    first, second = found
    if first is None or second is None:
        return None
    fits, reason = DEMANDED[row.name]
    numbers = [s.value for s in (first, second) if isinstance(s, Const)]
    if len(numbers) == 2 and not fits(*numbers):
        _wrong(call, reason, low)
        return None
    return Draw(row.name, (first, second))


def axes_drawn(per: ast.Affine, call: ast.Call, pools: PoolLowering) -> tuple[str, ...] | None:
    """The axes of `normal(0, 1 per O, *I)`, or `None` after a report."""
    found: list[str] = []
    for term in per.terms:
        if term.only is not None or per.off:
            _wrong(call, "takes plain axes after `per`", pools.low)
            return None
        for ref in term.axes:
            axes = pools.resolve(ref)
            if axes is None:
                return None
            found += axes
    return pools.low.table.space.ordered(found)


def report_draws(body: Iterable[Let], problems: Collector) -> None:
    """A problem for each draw that calls would repeat: in what is left of a norm's body."""
    hint = "begin a parameter or a buffer with it: `param p[C] = normal(0, 1)`"
    for let in _every(body):
        if isinstance(let.op, Draw):
            problems.add(MisplacedDraw(let.span, let.op.distribution, hint))


def _wrong(call: ast.Call, problem: str, low: Lowering) -> None:
    row = DRAWS[call.function.name]
    low.problems.add(WrongArguments(call.span, row.name, row.usage, problem))


def _draws_in(expr: object) -> Iterator[ast.Call]:
    """The calls of distributions inside an expression, in the order of the text."""
    for node in nodes_in(expr):
        if isinstance(node, ast.Call) and node.function.name in DRAWS:
            yield node


def _every(body: Iterable[Let]) -> Iterator[Let]:
    for let in body:
        yield let
        if isinstance(let.op, Repeat):
            yield from _every(let.op.body)
