"""Lark tree to AST, for what statements consist of: one method for each grammar rule."""

# ruff: noqa: D102 (methods are called like the rules that they build)

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lark import Token

from metanorm.diagnostics.characters import BadNumber
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.syntax import GivenTwice, MisplacedPart
from metanorm.source import Source, Span
from metanorm.syntax import ast, build
from metanorm.syntax.tokens import MAX_DEPTH, span_of
from metanorm.syntax.tree_from_text import MISSING

Tree = (
    Any  # Lark's tree. A child is a tree, a token, or `None` for an optional part that is not there
)
MAX_DIGITS = 40


class TooDeep(Exception):
    """An expression is nested deeper than the limit; `span` says where."""

    def __init__(self, span: Span) -> None:
        self.span = span


class ExpressionBuilder:
    """Builds expressions, pools and other parts of statements."""

    def __init__(self, source: Source, problems: Collector) -> None:
        self.source = source
        self.problems = problems
        self.depth = 0

    def dtype(self, tree: Tree | None) -> ast.Dtype | None:
        if tree is None:
            return None
        word, name = tree.children
        return ast.Dtype(span=self.span(tree), name=self.identifier(name), like=word.type == "LIKE")

    # ---- axes and pools

    def dims(self, tree: Tree | None) -> tuple[ast.Dim, ...]:
        return () if tree is None else tuple(self.dim(d) for d in tree.children if d)

    def dim(self, tree: Tree) -> ast.Dim:
        *axis, size = tree.children
        return ast.Dim(
            span=self.span(tree),
            axis=self.axis_ref(axis, self.span(axis[0]).to(self.span(axis[-1]))),
            size=self.size(size.children[0]) if size is not None else None,
        )

    def size(self, token: Token) -> ast.Identifier | ast.Number:
        return self.number(token) if token.type == "NUMBER" else self.identifier(token)

    def axis_ref(self, parts: Sequence[Token], span: Span) -> ast.AxisRef:
        return ast.AxisRef(span=span, name=str(parts[-1]), variadic=len(parts) > 1)

    def pool(self, tree: Tree) -> ast.Pool:
        axes: list[ast.PoolAxis] = []
        keywords: list[ast.Keyword] = []
        once: dict[str, Any] = {}
        for child in tree.children:
            if child.data == "pool_axis":
                axis, matrix = child.children
                axes.append(
                    ast.PoolAxis(
                        span=self.span(child),
                        axis=self.axis_ref(axis.children, self.span(axis)),
                        matrix=self.matrix(matrix) if matrix is not None else None,
                    )
                )
            elif child.data == "keyword":
                keywords.append(self.keyword(child))
            else:
                if child.data in once:
                    word = {"tracked": "track"}.get(child.data, child.data)
                    self.problems.add(GivenTwice(self.span(child), word))
                build = self.tracked if child.data == "tracked" else self.only
                once[child.data] = build(child.children, self.span(child))
        self._report_doubles(keywords)
        return ast.Pool(span=self.span(tree), axes=tuple(axes), keywords=tuple(keywords), **once)

    def only(self, parts: list[Any], span: Span) -> ast.Expr:
        return self.expr(parts[0])

    def tracked(self, parts: list[Any], span: Span) -> ast.Tracked:
        momentum, initial, into, *off = parts
        return ast.Tracked(
            span=span,
            momentum=self.expr(momentum),
            initial=self.expr(initial) if initial is not None else None,
            into=self.identifier(into) if into is not None else None,
            off=bool(off),
        )

    def matrix(self, tree: Tree) -> ast.Matrix:
        name, arguments, extra, within = tree.children
        end = self.span(arguments or name).end
        parenthesised = self.source.text[end : self.span(tree).end].lstrip().startswith(")")
        return ast.Matrix(
            span=self.span(tree),
            name=str(name),
            arguments=tuple(self.argument(a) for a in arguments.children) if arguments else (),
            parenthesised=parenthesised or arguments is not None,
            extra=self.identifier(extra) if extra else None,
            within=self.identifier(within) if within else None,
        )

    def affine(self, tree: Tree) -> ast.Affine:
        off = is_off(tree.children[-1])
        common_axes: list[ast.AxisRef] = []
        terms: list[ast.AffineTerm] = []
        for term in tree.children[: len(tree.children) - off]:
            only = term.children[0] if isinstance(term.children[0], Token) else None
            refs = [a for a in term.children if not isinstance(a, Token)]
            axes = tuple(self.axis_ref(a.children, self.span(a)) for a in refs)
            if only is None:
                common_axes.extend(axes)
            else:
                terms.append(
                    ast.AffineTerm(span=self.span(term), only=self.identifier(only), axes=axes)
                )
        if common_axes:
            span = common_axes[0].span.to(common_axes[-1].span)
            terms.insert(0, ast.AffineTerm(span=span, axes=tuple(common_axes)))
        return ast.Affine(span=self.span(tree), terms=tuple(terms), off=off)

    # ---- expressions

    def expr(self, tree: Any) -> ast.Expr:
        """Any expression; a misplaced keyword argument counts as its value."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeep(self.span(tree))
        build: Callable[[Tree], ast.Expr] = getattr(self, f"expr_{tree.data}")
        built = build(tree)
        self.depth -= 1
        return built

    def expr_number(self, tree: Tree) -> ast.Expr:
        return self.number(tree.children[0])

    def number(self, token: Token) -> ast.Number:
        span = span_of(self.source, token)
        value = float(token)
        problem = ""
        if len(token) > MAX_DIGITS:
            problem = f"has more than {MAX_DIGITS} characters"
        elif not math.isfinite(value):
            problem = "is too large for 64-bit floating point"
        elif value == 0 and token.lower().partition("e")[0].strip("0."):
            problem = "is too small for 64-bit floating point"
        if problem:
            self.problems.add(BadNumber(span, str(token), problem))
            value = 1.0
        return ast.Number(span=span, value=value, text=str(token))

    def expr_text(self, tree: Tree) -> ast.Expr:
        return self.text(tree.children[0])

    def text(self, token: Token) -> ast.Text:
        return ast.Text(span=span_of(self.source, token), value=str(token)[1:-1])

    def expr_name(self, tree: Tree) -> ast.Expr:
        span = self.span(tree)
        if tree.children[0] == MISSING:
            return ast.Missing(span=span)
        return ast.Name(span=span, name=str(tree.children[0]))

    def expr_spread(self, tree: Tree) -> ast.Expr:
        return ast.Spread(span=self.span(tree), name=str(tree.children[1]))

    def expr_axis_list(self, tree: Tree) -> ast.Expr:
        items = [self.expr(part) for part in tree.children]
        misplaced = [e for e in items if not isinstance(e, (ast.Name, ast.Spread, ast.Missing))]
        if misplaced:
            hint = "several values in parentheses are axes: `Inner(x, D = (H, E))`"
            self.problems.add(MisplacedPart(misplaced[0].span, "an expression", hint))
        axes = tuple(build.axis_ref(e) for e in items if isinstance(e, (ast.Name, ast.Spread)))
        return ast.AxisList(span=self.span(tree), axes=axes)

    def expr_group(self, tree: Tree) -> ast.Expr:
        return self.expr(tree.children[0])

    def expr_negative(self, tree: Tree) -> ast.Expr:
        return ast.Negative(span=self.span(tree), operand=self.expr(tree.children[1]))

    def expr_sum(self, tree: Tree) -> ast.Expr:
        return ast.Chain(
            span=self.span(tree),
            operators=tuple(str(operator) for operator in tree.children[1::2]),
            operands=tuple(self.expr(operand) for operand in tree.children[::2]),
        )

    expr_product = expr_sum

    def expr_power(self, tree: Tree) -> ast.Expr:
        base, exponent = tree.children
        return ast.Power(span=self.span(tree), base=self.expr(base), exponent=self.expr(exponent))

    def expr_compare(self, tree: Tree) -> ast.Expr:
        left, operator, right = tree.children
        return ast.Compare(
            span=self.span(tree),
            operator=str(operator),
            left=self.expr(left),
            right=self.expr(right),
        )

    def expr_field(self, tree: Tree) -> ast.Expr:
        value, name = tree.children
        return ast.FieldOf(
            span=self.span(tree), value=self.expr(value), field=self.identifier(name)
        )

    def expr_index(self, tree: Tree) -> ast.Expr:
        value, *subscripts = tree.children
        return ast.Index(
            span=self.span(tree),
            value=self.expr(value),
            subscripts=tuple(self.subscript(s) for s in subscripts),
        )

    def subscript(self, tree: Tree) -> ast.Rename | ast.At | ast.Expr:
        if tree.data == "at":
            axis, position = tree.children
            return ast.At(
                span=self.span(tree),
                axis=self.axis_ref([axis], self.span(axis)),
                position=self.expr(position),
            )
        if tree.data != "rename":
            return self.expr(tree)
        old, new = tree.children
        return ast.Rename(
            span=self.span(tree),
            old=self.axis_ref(old.children, self.span(old)),
            new=self.axis_ref(new.children, self.span(new)),
        )

    def expr_call(self, tree: Tree) -> ast.Expr:
        name, arguments, over, per, dtype = tree.children
        parsed = [self.argument(a) for a in arguments.children] if arguments else []
        last = max((i for i, a in enumerate(parsed) if not isinstance(a, ast.Keyword)), default=-1)
        misplaced = [a for a in parsed[: max(last, 0)] if isinstance(a, ast.Keyword)]
        if misplaced:
            hint = "plain arguments come first; values are compared with `==`"
            self.problems.add(MisplacedPart(misplaced[0].span, "a named argument", hint))
        keywords = [a for a in parsed[last + 1 :] if isinstance(a, ast.Keyword)]
        positional = [
            ast.Missing(span=a.span) if isinstance(a, ast.Keyword) else a
            for a in parsed[: last + 1]
        ]
        self._report_doubles(keywords)
        return ast.Call(
            span=self.span(tree),
            function=self.identifier(name),
            arguments=tuple(positional),
            keywords=tuple(keywords),
            over=self.pool(over) if over is not None else None,
            per=self.affine(per.children[0]) if per is not None else None,
            dtype=self.dtype(dtype),
        )

    def argument(self, tree: Tree) -> ast.Keyword | ast.Expr:
        return self.keyword(tree) if tree.data in ("keyword", "labelled") else self.expr(tree)

    def keyword(self, tree: Tree) -> ast.Keyword:
        name, value = tree.children
        return ast.Keyword(
            span=self.span(tree),
            name=str(name),
            value=self.expr(value),
            labelled=tree.data == "labelled",
        )

    def _report_doubles(self, keywords: Sequence[ast.Keyword]) -> None:
        seen: set[str] = set()
        for keyword in keywords:
            if keyword.name in seen:
                self.problems.add(GivenTwice(keyword.span, keyword.name))
            seen.add(keyword.name)

    # ---- spans

    def span(self, part: Tree | Token) -> Span:
        if isinstance(part, Token):
            return span_of(self.source, part)
        if part.meta.empty:
            return self.source.span(0, 0)
        return self.source.span(part.meta.start_pos, part.meta.end_pos)

    def identifier(self, token: Token) -> ast.Identifier:
        return ast.Identifier(span=span_of(self.source, token), name=str(token))


def is_off(part: Any) -> bool:
    """Whether it is the word `off`, which sets the default of a switch."""
    return isinstance(part, Token) and part.type == "OFF"
