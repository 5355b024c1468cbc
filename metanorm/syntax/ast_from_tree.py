"""Lark tree to AST: one method for each grammar rule."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from lark import Token

from metanorm.diagnostics.characters import NestedTooDeep
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.syntax import MisplacedPart
from metanorm.source import Source, Span
from metanorm.syntax import ast
from metanorm.syntax.expressions_from_tree import ExpressionBuilder, TooDeep, Tree, is_off
from metanorm.syntax.notes import with_notes
from metanorm.syntax.tokens import MAX_DEPTH
from metanorm.syntax.tree_from_text import ParsedText
from metanorm.syntax.trivia import distribute, start_of

ENTRY_STATEMENTS = ("axis", "let", "repeat", "output")  # those that an entry may have
BACKWARD_STATEMENTS = ("let", "repeat", "gradient", "update")  # those that a backward pass may have
BLOCKS = ("entry", "backward")  # statements that have statements, and comments among them


def ast_from_tree(source: Source, parsed: ParsedText, problems: Collector) -> ast.File:
    """The AST of a file. It reports bad numbers, deep nesting, and doubled or misplaced parts."""
    return _Builder(source, parsed, problems).file(parsed.tree)


class _Builder(ExpressionBuilder):
    def __init__(self, source: Source, parsed: ParsedText, problems: Collector) -> None:
        super().__init__(source, problems)
        self.parsed = parsed

    # ---- files and norms

    def file(self, tree: Tree) -> ast.File:
        spans = [self.span(child) for child in tree.children]
        bodies = [self.body(child) for child in tree.children if child.data == "norm"]
        outside = self._comments_outside(bodies)
        trivia, end = distribute(self.source, outside, spans, self.source.whole())
        uses, norms = [], []
        for child, comments in zip(tree.children, trivia):
            if child.data == "use":
                path = str(child.children[0])[1:-1]
                uses.append(ast.Use(span=self.span(child), path=path, trivia=comments))
            else:
                self.depth = 0
                try:
                    norms.append(self.norm(child, comments))
                except TooDeep as deep:
                    self.problems.add(NestedTooDeep(deep.span, MAX_DEPTH))
                    self.parsed.broken.add(str(child.children[0]))
        return ast.File(span=self.source.whole(), uses=tuple(uses), norms=tuple(norms), end=end)

    def _comments_outside(self, bodies: Sequence[Span]) -> list[Token]:
        """The comments outside of all bodies. Bodies and comments are in the order of the text."""
        comments, outside, position = self.parsed.comments, [], 0
        for body in bodies:
            first = bisect_left(comments, body.start, key=start_of)
            outside += comments[position:first]
            position = bisect_left(comments, body.end, key=start_of)
        return outside + comments[position:]

    def norm(self, tree: Tree, comments: ast.Trivia) -> ast.Norm:
        name, hypers, target, *statements = tree.children
        body = self.body(tree)
        spans = [self.span(statement) for statement in statements]
        hyper_nodes = [self.hyper(h) for h in hypers.children if h] if hypers else []
        statement_nodes = [self.statement(statement, ast.Trivia()) for statement in statements]
        self._report_stray_gradients(statement_nodes)
        inner = [self.body(s) for s in statements if s.data in BLOCKS]
        comments_of_norm = [
            comment
            for comment in self._comments_within(body)
            if not any(span.start <= start_of(comment) < span.end for span in inner)
        ]
        limit = self.span(hypers).end if hypers else 0
        noted_hypers, remaining = with_notes(
            self.source, comments_of_norm, hyper_nodes, limit, inside=True
        )
        for position, (statement, following) in enumerate(
            zip(statement_nodes, [*spans[1:], body.after()])
        ):
            if isinstance(statement, ast.Itemized):
                items, remaining = with_notes(
                    self.source, remaining, statement.items, following.start, inside=False
                )
                statement_nodes[position] = statement.with_items(items)
        trivia, end = distribute(self.source, remaining, spans, body)
        return ast.Norm(
            span=self.span(tree),
            name=self.identifier(name),
            hypers=noted_hypers,
            target=self.identifier(target.children[0]) if target else None,
            statements=tuple(replace(s, trivia=t) for s, t in zip(statement_nodes, trivia)),
            trivia=comments,
            end=end,
        )

    def body(self, tree: Tree) -> Span:
        """The span of a norm or an entry behind its name, or of a backward pass."""
        span = self.span(tree)
        start = span.start if tree.data == "backward" else self.span(tree.children[0]).end
        return self.source.span(start, span.end)

    def _comments_within(self, body: Span) -> list[Token]:
        """The comments of a norm, in the order of the text."""
        comments = self.parsed.comments
        first = bisect_left(comments, body.start, key=start_of)
        return comments[first : bisect_left(comments, body.end, key=start_of)]

    def hyper(self, tree: Tree) -> ast.Hyper:
        name, sort, default = tree.children
        parts = sort.children if sort else []
        is_choice = bool(sort) and sort.data == "choices"
        return ast.Hyper(
            span=self.span(tree),
            name=self.identifier(name),
            type=self.identifier(parts[0]) if parts and not is_choice else None,
            choices=tuple(self.text(p) for p in parts if is_choice and p.type == "STRING"),
            axes=tuple(self.identifier(axis) for axis in parts[1:] if axis and not is_choice),
            default=self.expr(default) if default is not None else None,
        )

    # ---- statements

    def statement(self, tree: Tree, trivia: ast.Trivia) -> Any:
        build: Callable[..., ast.Node] = getattr(self, f"statement_{tree.data}")
        return build(tree.children, span=self.span(tree), trivia=trivia)

    def statement_input(self, parts: list[Any], **node: Any) -> ast.Input:
        return ast.Input(items=tuple(self.input_item(p) for p in parts), **node)

    def input_item(self, tree: Tree) -> ast.InputItem:
        name, sort, dims, last = tree.children
        is_table = tree.data == "input_index"
        return ast.InputItem(
            span=self.span(tree),
            name=self.identifier(name),
            sort=self.identifier(sort) if sort else None,
            dims=self.dims(dims),
            table=self.dim(last) if is_table else None,
            default=self.expr(last) if last is not None and not is_table else None,
        )

    def statement_axis(self, parts: list[Any], **node: Any) -> ast.AxisSplit | ast.AxisCut:
        axis, *groups = (part for part in parts if not _is_plus(part))
        if len(groups) == 1 and not isinstance(groups[0].children[0], Token):
            dims = tuple(self.part(part) for part in groups[0].children)
            return ast.AxisSplit(axis=self.identifier(axis), parts=dims, **node)
        pieces = tuple(self.piece(group) for group in groups)
        return ast.AxisCut(axis=self.identifier(axis), pieces=pieces, **node)

    def part(self, tree: Tree) -> ast.Dim:
        """A part of an axis that is split, whose length is a name or a number."""
        *axis, size = tree.children
        if size is not None and size.data not in ("name", "number"):
            hint = "name the length, or write a number: `axis C = (G = groups, D)`"
            self.problems.add(MisplacedPart(self.span(size), "an expression", hint))
            size = None
        return ast.Dim(
            span=self.span(tree),
            axis=self.axis_ref(axis, self.span(axis[0]).to(self.span(axis[-1]))),
            size=self.size(size.children[0]) if size is not None else None,
        )

    def piece(self, tree: Tree) -> ast.Piece:
        """A run of positions of an axis, of which several are added: `(I = half)` or `B`."""
        first, *others = tree.children
        if isinstance(first, Token):
            return ast.Piece(span=self.span(tree), axis=self.axis_ref([first], self.span(first)))
        if others:
            hint = "a run of positions has one name: `axis C = (I = half) + B`"
            self.problems.add(MisplacedPart(self.span(others[0]), "a second name", hint))
        *axis, size = first.children
        return ast.Piece(
            span=self.span(tree),
            axis=self.axis_ref(axis, self.span(axis[0]).to(self.span(axis[-1]))),
            size=self.expr(size) if size is not None else None,
        )

    def statement_reduce(self, parts: list[Any], **node: Any) -> ast.Reduce:
        return ast.Reduce(pool=self.pool(parts[0]), **node)

    def statement_shift(self, parts: list[Any], **node: Any) -> ast.Shift:
        value, initial = parts
        return ast.Shift(
            value=self.expr(value),
            initial=self.expr(initial) if initial is not None else None,
            **node,
        )

    def statement_scale(self, parts: list[Any], **node: Any) -> ast.Scale:
        return ast.Scale(value=self.expr(parts[0]), **node)

    def statement_stat(self, parts: list[Any], **node: Any) -> ast.Stat:
        return ast.Stat(name=self.identifier(parts[0]), pool=self.pool(parts[1]), **node)

    def statement_mix(self, parts: list[Any], **node: Any) -> ast.Mix:
        *stats, by, argument = parts
        return ast.Mix(
            stats=tuple(self.identifier(s) for s in stats),
            by=self.identifier(by),
            argument=self.expr(argument) if argument is not None else None,
            **node,
        )

    def statement_track(self, parts: list[Any], **node: Any) -> ast.Track:
        return ast.Track(tracked=self.tracked([parts[0], None, *parts[1:]], node["span"]), **node)

    def statement_affine(self, parts: list[Any], **node: Any) -> ast.AffineClause:
        return ast.AffineClause(affine=self.affine(parts[0]), **node)

    def statement_param(self, parts: list[Any], **node: Any) -> ast.Param:
        return ast.Param(items=tuple(self.param_item(p) for p in parts), **node)

    def param_item(self, tree: Tree) -> ast.ParamItem:
        children = [c for c in tree.children if not _is_init(c)]
        name, dims, value, first, low, high, switch = children
        return ast.ParamItem(
            span=self.span(tree),
            name=self.identifier(name),
            dims=self.dims(dims),
            value=self.expr(value),
            from_weight=len(children) < len(tree.children),
            first=self.expr(first) if first is not None else None,
            low=self.expr(low) if low is not None else None,
            high=self.expr(high) if high is not None else None,
            switch=self.identifier(switch.children[0]) if switch is not None else None,
            off=switch is not None and is_off(switch.children[-1]),
        )

    def statement_let(self, parts: list[Any], **node: Any) -> ast.Let:
        name, dims, value = parts
        return ast.Let(
            name=self.identifier(name), dims=self.dims(dims), value=self.expr(value), **node
        )

    def statement_buffer(self, parts: list[Any], **node: Any) -> ast.Buffer:
        return ast.Buffer(items=tuple(self.buffer_item(p) for p in parts), **node)

    def buffer_item(self, tree: Tree) -> ast.BufferItem:
        children = [c for c in tree.children if not _is_init(c)]
        name, dims, value, first = children
        return ast.BufferItem(
            span=self.span(tree),
            name=self.identifier(name),
            dims=self.dims(dims),
            value=self.expr(value),
            from_weight=len(children) < len(tree.children),
            first=self.expr(first) if first is not None else None,
        )

    def statement_update(self, parts: list[Any], **node: Any) -> ast.Update:
        name, value, mode = parts
        return ast.Update(
            name=self.identifier(name),
            value=self.expr(value),
            mode=self.identifier(mode) if mode is not None else None,
            **node,
        )

    def statement_repeat(self, parts: list[Any], **node: Any) -> ast.Repeat:
        count, *assignments = parts
        body = tuple(
            ast.Assignment(
                span=self.span(a),
                name=self.identifier(a.children[0]),
                value=self.expr(a.children[1]),
            )
            for a in assignments
        )
        return ast.Repeat(count=self.expr(count), body=body, **node)

    def statement_output(self, parts: list[Any], **node: Any) -> ast.Output:
        items = []
        for item in parts:
            name, value, dtype = item.children
            items.append(
                ast.OutputItem(
                    span=self.span(item),
                    name=self.identifier(name) if name else None,
                    value=self.expr(value),
                    dtype=self.dtype(dtype),
                )
            )
        return ast.Output(items=tuple(items), **node)

    def statement_example(self, parts: list[Any], **node: Any) -> ast.Example:
        *items, within = parts
        (mode,) = (p for p in items if isinstance(p, Token) or p is None)
        given, expected = (
            tuple(self.example_item(p) for p in items if p is not mode and p.data == rule)
            for rule in ("given", "expected")
        )
        return ast.Example(
            given=given,
            mode=self.identifier(mode) if mode is not None else None,
            expected=expected,
            within=self.number(within) if within is not None else None,
            **node,
        )

    def example_item(self, tree: Tree) -> ast.ExampleItem:
        name, value = tree.children
        return ast.ExampleItem(
            span=self.span(tree),
            name=self.identifier(name) if name is not None else None,
            value=self.constant(value),
        )

    def constant(self, tree: Tree) -> ast.Constant:
        if tree.data != "list":
            return cast(ast.Constant, self.expr(tree))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeep(self.span(tree))
        items = tuple(self.constant(c) for c in tree.children if c is not None)
        self.depth -= 1
        return ast.ListOf(span=self.span(tree), items=items)

    def statement_entry(self, parts: list[Any], **node: Any) -> ast.Entry:
        name, *others = parts
        inputs = [part for part in others if part and part.data.startswith("input_")]
        hint = "an entry computes: what is declared, learned or kept stands in the norm"
        parts = [part for part in others if part and part not in inputs]
        statements = self._allowed(parts, ENTRY_STATEMENTS, "an entry", hint)
        body = self.source.span(self.identifier(name).span.end, node["span"].end)
        end = self.span(inputs[-1]).end if inputs else body.start
        items, comments = with_notes(
            self.source,
            self._comments_within(body),
            [self.input_item(item) for item in inputs],
            self.source.text.find("{", end),
            inside=True,
        )
        built, last = self._block(statements, comments, body)
        return ast.Entry(
            name=self.identifier(name), inputs=items, statements=built, end=last, **node
        )

    def statement_gradient(self, parts: list[Any], **node: Any) -> ast.Gradient:
        name, value = parts
        return ast.Gradient(name=self.identifier(name), value=self.expr(value), **node)

    def statement_backward(self, parts: list[Any], **node: Any) -> ast.Backward:
        hint = "it has `let`, `repeat`, `gradient` and `update`: move the rest into the norm"
        present = [part for part in parts if part]
        statements = self._allowed(present, BACKWARD_STATEMENTS, "a backward pass", hint)
        comments = self._comments_within(node["span"])
        built, last = self._block(statements, comments, node["span"])
        return ast.Backward(statements=built, end=last, **node)

    def _allowed(
        self, parts: Sequence[Tree], kinds: Sequence[str], where: str, hint: str
    ) -> list[Tree]:
        """The statements of a block without those that it cannot have, which are reported."""
        for part in parts:
            if part.data not in kinds:
                what = f"`{part.data}` in {where}"
                self.problems.add(MisplacedPart(self.span(part), what, hint))
        return [part for part in parts if part.data in kinds]

    def _block(
        self, statements: Sequence[Tree], comments: Sequence[Token], body: Span
    ) -> tuple[tuple[Any, ...], ast.Trivia]:
        """The statements of a block with their comments, and the comments behind the last one."""
        spans = [self.span(statement) for statement in statements]
        trivia, last = distribute(self.source, comments, spans, body)
        return tuple(self.statement(s, t) for s, t in zip(statements, trivia)), last

    def _report_stray_gradients(self, statements: Sequence[ast.AnyStatement]) -> None:
        """Report gradients that stand in a norm itself."""
        for statement in statements:
            if isinstance(statement, ast.Gradient):
                hint = "write `backward { gradient x = ... }`"
                what = "a `gradient` outside of `backward`"
                self.problems.add(MisplacedPart(statement.span, what, hint))


def _is_init(part: Any) -> bool:
    """Whether a part is the word `init`, which marks an initial value of the weight."""
    return isinstance(part, Token) and part.type == "INIT"


def _is_plus(part: Any) -> bool:
    """Whether a part is the sign between two runs of an axis."""
    return isinstance(part, Token) and part.type == "PLUS"
