"""Expressions as scalars: numbers that the constructor knows."""

from __future__ import annotations

from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.structure import TooLarge
from metanorm.diagnostics.values import NotConstant
from metanorm.ir.ops import ELEMENTWISE, OPERATORS
from metanorm.ir.scalar import FUNCTIONS, MAX_SCALAR_SIZE, Const, Scalar, SizeOf, apply, size_of
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.syntax import ast

CHOICE = "choice"  # the sort of a hyperparameter that is one of several strings
FLAGS = {"false": 0.0, "true": 1.0}


def scalar_from_ast(
    expr: ast.Expr, scope: CallScope, low: Lowering, what: str, hint: str = "", fixes: bool = True
) -> Scalar | None:
    """The scalar of an expression; `None` after a report that the constructor does not know it.

    If it `fixes` lengths, the constructor asks for those that the expression reads.
    """
    scalar = _scalar(expr, scope, low, fixes)
    if scalar is not None and size_of(scalar) > MAX_SCALAR_SIZE:
        low.problems.add(TooLarge(expr.span, MAX_SCALAR_SIZE, "numbers and operators", what))
        return None
    if scalar is not None or isinstance(expr, ast.Missing):
        return scalar
    if isinstance(expr, ast.Name) and scope.names.find(expr.name) is None:
        low.problems.add(UnknownName(expr.span, expr.name, tuple(scope.hypers)))
    else:
        low.problems.add(NotConstant(expr.span, what, hint))
    return None


def scalar_or_none(expr: ast.Expr, scope: CallScope, low: Lowering) -> Scalar | None:
    """The scalar of an expression; `None` if it has none, or too large a one."""
    scalar = _scalar(expr, scope, low, fixes=True)
    return scalar if scalar is None or size_of(scalar) <= MAX_SCALAR_SIZE else None


def sort_of(hyper: ast.Hyper) -> str:
    """The sort of a hyperparameter: as declared, or that of its default."""
    if hyper.type is not None:
        return hyper.type.name
    if hyper.choices:
        return CHOICE
    default = hyper.default
    is_flag = isinstance(default, ast.Name) and default.name in FLAGS
    return "bool" if is_flag else "float"


def is_none(expr: ast.Expr | None) -> bool:
    """Whether an expression is the word `None`: the machine epsilon, or an average of all calls."""
    return isinstance(expr, ast.Name) and expr.name == "None"


def flag_from_ast(expr: ast.Expr, scope: CallScope, low: Lowering, what: str) -> Scalar | None:
    """The scalar of `true`, `false` or a boolean hyperparameter; `None` after a report."""
    if isinstance(expr, ast.Name) and expr.name in FLAGS:
        return Const(FLAGS[expr.name])
    if isinstance(expr, ast.Name) and scope.hyper_sorts.get(expr.name) == "bool":
        scope.names.find(expr.name)
        return scope.hypers[expr.name]
    low.problems.add(NotConstant(expr.span, what, "it is `true` or `false`"))
    return None


def _scalar(expr: ast.Expr, scope: CallScope, low: Lowering, fixes: bool) -> Scalar | None:
    match expr:
        case ast.Number():
            return Const(expr.value)
        case ast.Name():
            return _hyper(expr.name, scope)
        case ast.Negative():
            return _apply("neg", (expr.operand,), scope, low, fixes)
        case ast.Power():
            return _apply("pow", (expr.base, expr.exponent), scope, low, fixes)
        case ast.Chain():
            result = _scalar(expr.operands[0], scope, low, fixes)
            for operator, operand in zip(expr.operators, expr.operands[1:]):
                right = _scalar(operand, scope, low, fixes)
                if result is None or right is None:
                    return None
                # The caller reports a scalar that is too large, so it need not grow further.
                if size_of(result) <= MAX_SCALAR_SIZE:
                    result = apply(OPERATORS[operator], result, right)
            return result
        case ast.Call() if expr.function.name == "size" and not expr.over:
            return _size(expr, scope, low, fixes)
        case ast.Call() if _is_function(expr):
            return _apply(expr.function.name, expr.arguments, scope, low, fixes)
        case _:
            return None


def _is_function(call: ast.Call) -> bool:
    name = call.function.name
    has_no_parts = not (call.over or call.keywords or call.per)
    is_known = has_no_parts and name in FUNCTIONS and name in ELEMENTWISE
    return is_known and len(call.arguments) == len(ELEMENTWISE[name].parameters)


def _hyper(name: str, scope: CallScope) -> Scalar | None:
    if name not in scope.hypers or scope.hyper_sorts.get(name) not in ("int", "float"):
        return None
    scope.names.find(name)
    return scope.hypers[name]


def _apply(
    function: str, arguments: tuple[ast.Expr, ...], scope: CallScope, low: Lowering, fixes: bool
) -> Scalar | None:
    scalars = [_scalar(a, scope, low, fixes) for a in arguments]
    if any(s is None for s in scalars):
        return None
    return apply(function, *(s for s in scalars if s is not None))


def _size(call: ast.Call, scope: CallScope, low: Lowering, fixes: bool) -> Scalar | None:
    """`size(D)`. If this `fixes` the length of D, the constructor then needs it."""
    argument = call.arguments[0] if len(call.arguments) == 1 else None
    name = argument.name if isinstance(argument, (ast.Name, ast.Spread)) else ""
    axes = scope.axes.get(name, ()) if scope.axes is not None else (name,)
    if len(axes) != 1 or axes[0] not in low.table.declared:
        return None
    if fixes:
        low.table.require_fixed(axes[0], "an initial value", call.span)
    return SizeOf(axes[0])
