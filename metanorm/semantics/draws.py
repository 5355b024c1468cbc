"""Random initial values, and reports of draws in other places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from metanorm.diagnostics.calls import UnknownArgument, WrongArguments
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import MisplacedDraw, WrongKind
from metanorm.ir.nodes import Draw, Eye, Init, Let, Repeat
from metanorm.ir.ops import DRAWS
from metanorm.ir.scalar import Const
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.pools import PoolLowering
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.source import Span
from metanorm.syntax import ast

# For each distribution: a condition on its two arguments, and the report if it does not hold.
ARGUMENT_RULES: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "normal": (lambda mean, std: std >= 0, "needs a deviation that is not negative"),
    "uniform": (lambda low, high: low <= high, "needs the lower bound first"),
}


def initial_from_ast(expr: ast.Expr, scope: CallScope, low: Lowering, what: str) -> Init | None:
    """The initial value of a parameter or a buffer; `None` after a report."""
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
        _report_wrong(expr, f"takes no `{part}` here: its axes are those of what begins", low)
        return None
    return draw_from_ast(expr, scope, low)


def check_identity(
    init: Init, dims: tuple[str, ...], what: str, span: Span, low: Lowering
) -> Init | None:
    """The initial value, checked: an identity needs two dimensions; `None` after a report."""
    if not isinstance(init, Eye):
        return init
    if len(dims) < 2:
        actual = f"{what} on {listing(dims) or 'no axes'}"
        hint = "an identity matrix lies in the last two axes: `param w[C, D = n] = eye`"
        low.problems.add(WrongKind(span, actual, "two axes or more", hint))
        return None
    return Eye(blocks=len(low.table.space.leaves(dims[-2])) > len(low.table.space.leaves(dims[-1])))


def draw_from_ast(call: ast.Call, scope: CallScope, low: Lowering) -> Draw | None:
    """A draw from a call of a distribution, without axes; `None` after a report."""
    row = DRAWS[call.function.name]
    expr_by_parameter: dict[str, ast.Expr] = dict(zip(row.parameters, call.arguments))
    for keyword in call.keywords:
        if keyword.name not in row.parameters:
            parameters = tuple(row.parameters)
            low.problems.add(UnknownArgument(keyword.span, keyword.name, row.name, parameters))
            return None
        expr_by_parameter[keyword.name] = keyword.value
    count = len(call.arguments) + len(call.keywords)
    if count != len(row.parameters) or len(expr_by_parameter) != count:
        _report_wrong(
            call, f"takes {len(row.parameters)} arguments, and got {count or 'none'}", low
        )
        return None
    what = f"an argument of `{row.name}`"
    scalars = [
        scalar_from_ast(expr_by_parameter[name], scope, low, what) for name in row.parameters
    ]
    first, second = scalars
    if first is None or second is None:
        return None
    is_valid, reason = ARGUMENT_RULES[row.name]
    numbers = [s.value for s in (first, second) if isinstance(s, Const)]
    if len(numbers) == 2 and not is_valid(*numbers):
        _report_wrong(call, reason, low)
        return None
    return Draw(row.name, (first, second))


def axes_of_draw(per: ast.Affine, call: ast.Call, pools: PoolLowering) -> tuple[str, ...] | None:
    """The axes of `normal(0, 1 per O, *I)`, or `None` after a report."""
    resolved: list[str] = []
    for term in per.terms:
        if term.only is not None or per.off:
            _report_wrong(call, "takes plain axes after `per`", pools.low)
            return None
        for ref in term.axes:
            axes = pools.resolve(ref)
            if axes is None:
                return None
            resolved += axes
    return pools.low.table.space.ordered(resolved)


def report_draws(body: Iterable[Let], problems: Collector) -> None:
    """Report each draw in the body of a norm: every call would repeat it."""
    hint = "begin a parameter or a buffer with it: `param p[C] = normal(0, 1)`"
    for let in _every_let(body):
        if isinstance(let.op, Draw):
            problems.add(MisplacedDraw(let.span, let.op.distribution, hint))


def _report_wrong(call: ast.Call, problem: str, low: Lowering) -> None:
    row = DRAWS[call.function.name]
    low.problems.add(WrongArguments(call.span, row.name, row.usage, problem))


def _draws_in(expr: object) -> Iterator[ast.Call]:
    """The calls of distributions inside an expression, in the order of the text."""
    for node in nodes_in(expr):
        if isinstance(node, ast.Call) and node.function.name in DRAWS:
            yield node


def _every_let(body: Iterable[Let]) -> Iterator[Let]:
    for let in body:
        yield let
        if isinstance(let.op, Repeat):
            yield from _every_let(let.op.body)
