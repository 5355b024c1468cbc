"""What an editor shows in and beside a text: semantic tokens, inferred axes, an outline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metanorm.lsp.hover import axes_text
from metanorm.lsp.project import View
from metanorm.semantics.symbols import Role
from metanorm.source import Span
from metanorm.syntax import ast

# The token type of the protocol for each role of a name. The grammar of the editor colours all
# keywords, numbers and comments.
TOKEN_TYPES: Mapping[Role, str] = {
    Role.NORM: "class",
    Role.AXIS: "typeParameter",
    Role.HYPER: "parameter",
    Role.INPUT: "variable",
    Role.PARAM: "property",
    Role.BUFFER: "property",
    Role.VALUE: "variable",
    Role.LENGTH: "parameter",
    Role.OUTPUT: "variable",
    Role.UNKNOWN: "variable",
    Role.FUNCTION: "function",
    Role.MATRIX: "function",
    Role.OPTION: "parameter",
    Role.FIELD: "property",
    Role.SORT: "type",
    Role.WORD: "enumMember",
}


@dataclass(frozen=True)
class SemanticToken:
    """A name, the type of its token, and whether this occurrence introduces it."""

    span: Span
    type: str
    introduces: bool
    of_language: bool


def semantic_tokens(view: View) -> list[SemanticToken]:
    """The names of a text in order, one token for each span."""
    token_by_span: dict[Span, SemanticToken] = {}
    for occurrence in view.occurrences:
        of_language = not occurrence.symbol.norm and occurrence.symbol.role is not Role.NORM
        token = SemanticToken(
            occurrence.span, TOKEN_TYPES[occurrence.symbol.role], occurrence.introduces, of_language
        )
        token_by_span.setdefault(occurrence.span, token)
    return [token_by_span[span] for span in sorted(token_by_span)]


@dataclass(frozen=True)
class AxesHint:
    """Inferred axes, to be shown behind a name."""

    offset: int
    text: str


def hints(view: View, span: Span) -> list[AxesHint]:
    """The inferred axes of each `let` and `stat` in a span, unless the text declares them."""
    return [h for h in _all_hints(view) if span.start <= h.offset <= span.end]


def _all_hints(view: View) -> Iterator[AxesHint]:
    for norm in view.file.norms:
        values = view.values(norm.name.name)
        for statement in norm.statements:
            is_let = isinstance(statement, ast.Let) and not statement.dims
            if is_let or isinstance(statement, ast.Stat):
                assert isinstance(statement, (ast.Let, ast.Stat))
                value = values.get(statement.name.name)
                if value is not None and value.axes:
                    yield AxesHint(statement.name.span.end, axes_text(value))


@dataclass(frozen=True)
class OutlineEntry:
    """A norm, or a name that it introduces."""

    name: str
    role: Role
    span: Span
    whole: Span
    detail: str = ""
    children: tuple[OutlineEntry, ...] = ()


def outline(view: View) -> list[OutlineEntry]:
    """The norms of a text, each with what it introduces."""
    return [
        OutlineEntry(
            norm.name.name,
            Role.NORM,
            norm.name.span,
            norm.span.to(norm.name.span),
            " ".join(norm.doc),
            tuple(_children(view, norm)),
        )
        for norm in view.file.norms
        if norm.name.span.end > norm.name.span.start
    ]


def _children(view: View, norm: ast.Norm) -> Iterator[OutlineEntry]:
    values = view.values(norm.name.name)
    for o in view.occurrences:
        if o.norm == norm.name.name and o.introduces and o.symbol.role is not Role.NORM:
            if not norm.span.start <= o.span.start < norm.span.end:
                continue  # of another norm of the same name
            value = values.get(o.symbol.name) if o.symbol.role is not Role.AXIS else None
            detail = axes_text(value) if value is not None else ""
            yield OutlineEntry(o.symbol.name, o.symbol.role, o.span, o.span, detail)
