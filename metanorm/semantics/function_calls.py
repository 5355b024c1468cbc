"""Lowering of calls of elementwise functions, such as `where(c, a, b)` and `clamp(x, min = 0)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metanorm.diagnostics.calls import UnknownArgument, WrongArguments
from metanorm.diagnostics.statistics import NeedsOver
from metanorm.diagnostics.syntax import MisplacedPart
from metanorm.ir.ops import FUNCTIONS, Operation, operations
from metanorm.semantics.choices import lower_choice
from metanorm.semantics.values import POISON, Tensor, Value
from metanorm.syntax import ast

if TYPE_CHECKING:
    from metanorm.semantics.expressions import Expressions


def lower_function_call(call: ast.Call, expressions: Expressions) -> Value:
    """The value of a call of an elementwise function; poison after a report."""
    row = FUNCTIONS[call.function.name]
    if call.over is not None:
        expressions.problems.add(NeedsOver(call.over.span, row.name, needs=False))
        return POISON
    if call.per is not None or call.dtype is not None:
        problem = "takes no `per`" if call.per else "takes no dtype"
        expressions.problems.add(wrong_arguments(call, row, problem))
        return POISON
    expr_by_parameter = _arguments(call, row, expressions)
    if expr_by_parameter is None:
        return POISON
    values = {name: expressions.number(expr) for name, expr in expr_by_parameter.items()}
    if any(v is None for v in values.values()):
        return POISON
    return _applied(row, {n: v for n, v in values.items() if v is not None}, call, expressions)


def wrong_arguments(call: ast.Call, row: Operation, problem: str) -> WrongArguments:
    """The report of a call's arguments, with the other usages of its name."""
    others = tuple(r.usage for r in operations(row.name) if r.usage != row.usage)
    return WrongArguments(call.span, row.name, row.usage, problem, others)


def _arguments(
    call: ast.Call, row: Operation, expressions: Expressions
) -> dict[str, ast.Expr] | None:
    """The arguments by parameter; `None` after a report."""
    names = [p.rstrip("?") for p in row.parameters]
    expr_by_parameter: dict[str, ast.Expr] = dict(zip(names, call.arguments))
    for keyword in call.keywords:
        if keyword.labelled and keyword.name in names:
            hint = f"a named argument is written `{keyword.name} = ...`"
            expressions.problems.add(MisplacedPart(keyword.span, f"`{keyword.name}:`", hint))
            return None
        if keyword.name not in names:
            used = (*expr_by_parameter, *(k.name for k in call.keywords))
            unknown = UnknownArgument(keyword.span, keyword.name, row.name, tuple(names), used)
            expressions.problems.add(unknown)
            return None
        expr_by_parameter[keyword.name] = keyword.value
    if len({k.name for k in call.keywords}) < len(call.keywords):
        return None  # reported by the parser
    total = len(call.arguments) + len(call.keywords)
    least = max(row.min_arguments, 1)
    if total != len(expr_by_parameter) or not least <= total <= len(names):
        expressions.problems.add(wrong_arguments(call, row, _count_problem(row, total)))
        return None
    return expr_by_parameter


def _count_problem(row: Operation, count: int) -> str:
    """What is wrong with a number of arguments."""
    most = len(row.parameters)
    wanted = f"{row.min_arguments} to {most}" if row.min_arguments < most else str(most)
    plural = "s" if wanted != "1" else ""
    return f"takes {wanted} argument{plural}, and got {count or 'none'}"


def _applied(
    row: Operation, value_by_parameter: dict[str, Tensor], call: ast.Call, expressions: Expressions
) -> Value:
    """The function of its arguments, of which optional ones may be absent."""
    low = expressions.low
    if row.steps:
        value = value_by_parameter["x"]
        for parameter, step in row.steps:
            if parameter in value_by_parameter:
                value = low.map(step, value, value_by_parameter[parameter], span=call.span)
        return value
    if row.name == "rsqrt":
        low.divisors.append((value_by_parameter["x"].ref, call.arguments[0].span))
    names = (p.rstrip("?") for p in row.parameters)
    arguments = [value_by_parameter[name] for name in names if name in value_by_parameter]
    if row.name == "where":
        condition, if_true, if_false = arguments
        return lower_choice(condition, if_true, if_false, call.span, low)
    return low.map(row.name, *arguments, span=call.span)
