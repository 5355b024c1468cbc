"""Random numbers: initial values, what calls draw, and reports of draws in other places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from metanorm.diagnostics.calls import UnknownArgument, WrongArguments
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.draws import DrawInEvaluation, MisplacedDraw
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Draw, Eye, Init, Let
from metanorm.ir.ops import DRAWS, Operation
from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.stated import StatedPass
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.pools import PoolLowering
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.symbols import CALL
from metanorm.source import Span
from metanorm.syntax import ast


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row. Hints show the example, a draw in a call."""

    example: str
    is_valid: Callable[..., bool]  # of the arguments
    requirement: str  # what the report says of arguments that are not valid


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "normal": Distribution(
        "normal(0, 1 per N)",
        lambda mean, std: std >= 0,
        "needs a deviation that is not negative",
    ),
    "uniform": Distribution(
        "uniform(0, 1 per N)", lambda low, high: low <= high, "needs the lower bound first"
    ),
    "bernoulli": Distribution(
        "bernoulli(0.5 per N)", lambda p: 0 <= p <= 1, "needs a probability, from 0 to 1"
    ),
    "permutation": Distribution("permutation(per N)", lambda: True, ""),
}
assert DISTRIBUTIONS.keys() == DRAWS.keys(), DISTRIBUTIONS.keys() ^ DRAWS.keys()


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
    row = DRAWS[expr.function.name]
    if not _draws_numbers(row):
        hint = "begin with `uniform(0, 1)`, or with a number"
        actual = "conditions" if row.boolean else "positions"
        low.problems.add(WrongKind(expr.span, actual, "numbers to begin with", hint))
        return None
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


def draw_from_ast(
    call: ast.Call, scope: CallScope, low: Lowering, fixes: bool = True
) -> Draw | None:
    """A draw from a call of a distribution, without axes; `None` after a report.

    If it `fixes` lengths, the constructor asks for those that its arguments read.
    """
    row = DRAWS[call.function.name]
    expr_by_parameter: dict[str, ast.Expr] = dict(zip(row.parameters, call.arguments))
    for keyword in call.keywords:
        if keyword.name not in row.parameters:
            parameters = tuple(row.parameters)
            low.problems.add(UnknownArgument(keyword.span, keyword.name, row.name, parameters))
            return None
        expr_by_parameter[keyword.name] = keyword.value
    count, wanted = len(call.arguments) + len(call.keywords), len(row.parameters)
    if count != wanted or len(expr_by_parameter) != count:
        plural = "argument" if wanted == 1 else "arguments"
        _report_wrong(call, f"takes {wanted or 'no'} {plural}, and got {count or 'none'}", low)
        return None
    what = f"an argument of `{row.name}`"
    scalars: list[Scalar] = []
    for name in row.parameters:
        scalar = scalar_from_ast(expr_by_parameter[name], scope, low, what, fixes=fixes)
        if scalar is not None:
            scalars.append(scalar)
    if len(scalars) < wanted:
        return None
    distribution = DISTRIBUTIONS[row.name]
    numbers = [s.value for s in scalars if isinstance(s, Const)]
    if len(numbers) == wanted and not distribution.is_valid(*numbers):
        _report_wrong(call, distribution.requirement, low)
        return None
    return Draw(row.name, tuple(scalars))


def axes_of_draw(per: ast.Affine, call: ast.Call, pools: PoolLowering) -> tuple[str, ...] | None:
    """The axes of `normal(0, 1 per O, *I)`, or `None` after a report."""
    if _is_of_call(per, pools):
        return ()
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


def draw_of_call(call: ast.Call, scope: CallScope, pools: PoolLowering) -> Draw | None:
    """A draw in an expression, with its axes; `None` after a report.

    In a norm for weights, it is one that `init` computes with.
    """
    low, name = pools.low, call.function.name
    hint = _why_misplaced(call, low)
    if hint:
        low.problems.add(MisplacedDraw(call.span, name, hint))
        return None
    assert call.per is not None
    draw = draw_from_ast(call, scope, low, fixes=low.target == "weight")
    axes = axes_of_draw(call.per, call, pools)
    if draw is None or axes is None:
        return None
    table = None
    if DRAWS[name].whole:
        if len(axes) != 1 or low.table.space[axes[0]].variadic:
            _report_wrong(call, "takes one axis after `per`, whose positions it orders anew", low)
            return None
        table = low.table.ordered_axis(axes[0])
    return replace(draw, axes=axes, number=len(low.types), table=table)


def _is_of_call(per: ast.Affine, pools: PoolLowering) -> bool:
    """Whether there is one number for the call: `per call`, unless an axis has that name."""
    if len(per.terms) != 1 or len(per.terms[0].axes) != 1 or per.terms[0].only or per.off:
        return False
    (ref,) = per.terms[0].axes
    return ref.name == CALL and not ref.variadic and pools.resolve(ref, quiet=True) is None


def _draws_numbers(row: Operation) -> bool:
    return not (row.boolean or row.whole)


def _why_misplaced(call: ast.Call, low: Lowering) -> str:
    """What to do about a draw that cannot stand where it is; empty if it can."""
    name = call.function.name
    example = DISTRIBUTIONS[name].example
    if low.target == "weight" and DRAWS[name].boolean:
        return "begin with `uniform(0, 1 per O)`, and compare it"
    if low.target not in ("activation", "loss") and DRAWS[name].whole:
        return "only calls of norms for activations and losses order positions"
    if low.target == "weight" and (call.per is None or call.over is not None):
        shown = example.replace("per N", "per O")
        return f"in what `init` computes, say for which positions: `{shown}`"
    if low.target in ("gradient", "step"):
        return "begin a buffer with it: `buffer b[O] = normal(0, 1)`"
    if call.over is not None or call.per is None:
        if DRAWS[name].whole:
            return f"say of which axis: `{example}`"
        return (
            f"say for which positions: `{example}`, or `per call` for one number; or begin a "
            "parameter or a buffer with it"
        )
    if low.in_loop:
        return "name it before the loop with `let`: a loop draws nothing"
    return ""


def report_draws(program: Program, stated: StatedPass | None, problems: Collector) -> None:
    """Report each draw that evaluation would need, or that a first batch or a backward pass has."""
    _report_draws_in_backward(stated.body if stated is not None else (), problems)
    if program.target == "weight":
        hint = "use it in what `init` computes: `buffer u[O] = init noise`"
        for let in program.body:
            if isinstance(let.op, Draw):
                problems.add(MisplacedDraw(let.span, let.op.distribution, hint))
        return
    for decl in program.state:
        for let in decl.first:
            if isinstance(let.op, Draw):
                hint = f"begin with it before there is a batch: `{decl.name}[C] = normal(0, 1)`"
                problems.add(MisplacedDraw(let.span, let.op.distribution, hint))
    updates = tuple(update for update in program.updates if update.happens(training=False))
    evaluated = reachable(replace(program, updates=updates), evaluating=True, keeps=False)
    for let in program.body:
        if isinstance(let.op, Draw) and let.name in evaluated:
            problems.add(DrawInEvaluation(let.span, let.op.distribution))


def _report_draws_in_backward(body: Iterable[Let], problems: Collector) -> None:
    """Report draws of a backward pass: it reads those of the call alone."""
    for let in body:
        if isinstance(let.op, Draw):
            hint = "draw it in the norm, with `let`: the backward pass reads the same numbers"
            problems.add(MisplacedDraw(let.span, let.op.distribution, hint))


def _report_wrong(call: ast.Call, problem: str, low: Lowering) -> None:
    row = DRAWS[call.function.name]
    low.problems.add(WrongArguments(call.span, row.name, row.usage, problem))


def _draws_in(expr: object) -> Iterator[ast.Call]:
    """The calls of distributions inside an expression, in the order of the text."""
    for node in nodes_in(expr):
        if isinstance(node, ast.Call) and node.function.name in DRAWS:
            yield node
