"""Short constructors of AST nodes, for stages that build equations."""

from __future__ import annotations

from dataclasses import replace

from metanorm.source import Span
from metanorm.syntax import ast


def name(span: Span, text: str) -> ast.Name:
    """A value, by name."""
    return ast.Name(span=span, name=text)


def number(span: Span, value: int) -> ast.Number:
    """A whole number."""
    return ast.Number(span=span, value=float(value), text=str(value))


def chain(span: Span, operator: str, *operands: ast.Expr) -> ast.Expr:
    """`a + b + c`; a single operand as it is."""
    if len(operands) == 1:
        return operands[0]
    operators = (operator,) * (len(operands) - 1)
    return ast.Chain(span=span, operators=operators, operands=operands)


def call(
    span: Span,
    function: str,
    *arguments: ast.Expr,
    over: ast.Pool | None = None,
    per: ast.Affine | None = None,
) -> ast.Call:
    """`function(arguments over ... per ...)`."""
    called = ast.Identifier(span=span, name=function)
    return ast.Call(span=span, function=called, arguments=arguments, over=over, per=per)


def let(span: Span, text: str, value: ast.Expr) -> ast.Let:
    """`let text = value`."""
    return ast.Let(span=span, name=ast.Identifier(span=span, name=text), value=value)


def item(span: Span, text: str, position: int) -> ast.Expr:
    """`text[position]`."""
    return ast.Index(span=span, value=name(span, text), subscripts=(number(span, position),))


def field(value: ast.Identifier, text: str) -> ast.Expr:
    """`value.text`."""
    return ast.FieldOf(
        span=value.span,
        value=name(value.span, value.name),
        field=ast.Identifier(span=value.span, name=text),
    )


def dims(subscripts: tuple[ast.Rename | ast.At | ast.Expr, ...]) -> tuple[ast.Dim, ...]:
    """Subscripts that are axes, as in `shift mean_scale[C, *S] = 1`, as dimensions."""
    return tuple(
        ast.Dim(span=s.span, axis=axis_ref(s))
        for s in subscripts
        if isinstance(s, (ast.Name, ast.Spread))
    )


def axis_ref(expr: ast.Name | ast.Spread) -> ast.AxisRef:
    """The axis reference of an axis that the grammar parses as an expression."""
    return ast.AxisRef(span=expr.span, name=expr.name, variadic=isinstance(expr, ast.Spread))


def is_word(value: ast.Expr, word: str) -> bool:
    """Whether an expression is this word and nothing else."""
    return isinstance(value, ast.Name) and value.name == word


def keyword_span(statement: ast.AnyStatement) -> Span:
    """The span of the keyword of a statement."""
    span = statement.span
    return Span(span.source, span.start, min(span.end, span.start + len(statement.kind)))


def with_track(pool: ast.Pool, track: ast.Track | None) -> ast.Pool:
    """The pool, with running statistics if there is a `track`."""
    return pool if track is None else replace(pool, tracked=track.tracked)


def with_keyword(pool: ast.Pool, keyword: ast.Keyword) -> ast.Pool:
    """The pool with one more option."""
    return replace(pool, keywords=(*pool.keywords, keyword))
