"""Hover texts: what the compiler knows of a name or word, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from metanorm.diagnostics.model import INTERNAL
from metanorm.diagnostics.registry import manual_page
from metanorm.frontend import CheckedNorm
from metanorm.ir.nodes import DTYPES
from metanorm.ir.ops import operations
from metanorm.ir.scalar import scalar_text
from metanorm.lsp.project import Project, View
from metanorm.semantics.ir_from_ast import NamedValue
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.symbols import Occurrence, Role
from metanorm.source import Source, Span
from metanorm.syntax import ast, words
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.syntax.tokens import word_at


@dataclass(frozen=True)
class Hover:
    """A Markdown text, and the span that it describes."""

    span: Span
    markdown: str


def hover(project: Project, view: View, offset: int) -> Hover | None:
    """The text for the name or word at an offset and its diagnostics; `None` without any."""
    parts: list[str] = []
    target: Span | None = None
    occurrence = view.at(offset)
    if occurrence is not None:
        target = occurrence.span
        parts += _name_markdown(project, view, occurrence)
    else:
        word = word_at(view.source, offset)
        if word is not None and word[0] in words.STATEMENTS:
            target = word[1]
            parts.append(_code_block(words.usage(word[0])) + words.STATEMENTS[word[0]])
        elif word is not None and word[0] in words.SOFT:
            target = word[1]
            parts.append(f"`{word[0]}`: {words.SOFT[word[0]]}")
    for diagnostic in view.findings.diagnostics:
        span = diagnostic.primary.span
        if (
            span.source == view.name
            and span.start <= offset <= span.end
            and diagnostic.code != INTERNAL
        ):
            target = target or span
            parts.append(_manual_text(diagnostic.code))
    return Hover(target, "\n\n---\n\n".join(parts)) if target is not None and parts else None


def _code_block(text: str) -> str:
    return f"```norm\n{text}\n```\n"


def _manual_text(code: str) -> str:
    """The manual page of a code, up to its example."""
    page = manual_page(code)
    meaning = page.body.partition("### Example")[0].replace("### What it means", "").strip()
    return f"**{code}: {page.title}**\n\n{meaning}"


# ---- names


def _name_markdown(project: Project, view: View, occurrence: Occurrence) -> list[str]:
    role, name = occurrence.symbol.role, occurrence.symbol.name
    if role in TEXT_BY_ROLE:
        result = _call_axes_text(view, occurrence) if role is Role.FUNCTION else ""
        return [TEXT_BY_ROLE[role](name) + result]
    definition = project.symbol(view, occurrence)
    if role is Role.NORM:
        return [_norm_markdown(project.view(definition[0]), name)] if definition else []
    home, norm = (definition[0], definition[1].norm) if definition else (view.name, occurrence.norm)
    home_view = project.view(home)
    if role is Role.AXIS:
        return [_axis_markdown(home_view, norm, name)]
    return [_value_markdown(home_view, norm, occurrence)]


def _call_axes_text(view: View, occurrence: Occurrence) -> str:
    """The axes of the result of a call, as a sentence."""
    checked = _checked_norm(view, occurrence.norm)
    calls = nodes_in(checked.norm) if checked is not None else ()
    for call in calls:
        if isinstance(call, ast.Call) and call.function.span == occurrence.span and checked:
            spans = (call.span, call.over.span if call.over else call.span)
            lets = [let for let in checked.program.body if let.span in spans]
            axes = checked.program.index.space.unsplit(lets[-1].type.axes) if lets else ()
            return f"\n\nHere it is on `[{', '.join(axes)}]`." if axes else ""
    return ""


def _operations(name: str) -> str:
    return "\n\n".join(_code_block(row.usage) + row.meaning for row in operations(name))


def _word_texts(*tables: Mapping[str, str]) -> Callable[[str], str]:
    def text(name: str) -> str:
        meanings = [table[name] for table in tables if name in table]
        return f"`{name}`: {meanings[0]}" if meanings else f"`{name}`"

    return text


TEXT_BY_ROLE: Mapping[Role, Callable[[str], str]] = {
    Role.FUNCTION: _operations,
    Role.MATRIX: _operations,
    Role.OPTION: _word_texts(words.OPTIONS),
    Role.SORT: _word_texts(words.SORTS),
    Role.FIELD: _word_texts(words.FIELDS),
    Role.WORD: _word_texts(words.CLAUSE_VALUES, words.TARGETS, dict.fromkeys(DTYPES, "a dtype")),
}


def _norm_markdown(view: View, name: str) -> str:
    """A norm: its equations without clauses, and its comment."""
    for checked in view.checked:
        if checked.norm.name.name == name:
            bare = replace(checked.equations, trivia=ast.Trivia())
            return _code_block("\n".join(norm_lines(bare))) + " ".join(checked.norm.doc)
    norm = next((n for n in view.file.norms if n.name.name == name), None)
    doc = " ".join(norm.doc) if norm is not None else ""
    return f"norm `{name}`, which has errors. {doc}".strip()


def _checked_norm(view: View, norm: str) -> CheckedNorm | None:
    return next((c for c in view.checked if c.norm.name.name == norm), None)


def _axis_markdown(view: View, norm: str, name: str) -> str:
    """An axis: whether it is a group, its length, and its parts."""
    checked = _checked_norm(view, norm)
    axes = checked.program.axes if checked is not None else ()
    axis = next((a for a in axes if a.name == name), None)
    if axis is None:
        return f"axis `{name}`"
    if axis.variadic:
        return f"axes `*{name}`: any number of them"
    facts = [f"of length `{scalar_text(axis.size)}`" if axis.size else "of any length"]
    if axis.parts:
        facts.append(f"split into {', '.join(f'`{part}`' for part in axis.parts)}")
    if axis.piece_of is not None:
        facts.append(f"a run of positions of `{axis.piece_of[0]}`")
    return f"axis `{name}` {', '.join(facts)}"


def axes_text(value: NamedValue) -> str:
    """`[N, C]`, as a spec declares it; empty for a number."""
    return f"[{', '.join(value.axes)}]" if value.axes else ""


def _value_markdown(view: View, norm: str, occurrence: Occurrence) -> str:
    """A value: its role, its axes, and the statement that introduces it."""
    symbol = occurrence.symbol
    value = view.values(norm).get(symbol.name)
    description = symbol.role.value if symbol.role is not Role.UNKNOWN else "value"
    title = symbol.name
    if value is not None:
        sort = {"real": "", "bool": ", a condition", "int": ", whole numbers"}
        description = value.role + sort.get(value.sort, f", {value.sort}")
        title += axes_text(value)
    statement = _statement_text(view, symbol.name, norm)
    meaning = words.IMPLIED.get(symbol.name, "") if statement is None else ""
    meaning = _declaration_comment(view, symbol.name, norm) or meaning
    text = _code_block(title) + description + (f": {meaning}" if meaning else "")
    return text + (f"\n\n{_code_block(statement)}" if statement else "")


def _statement_text(view: View, name: str, norm: str) -> str | None:
    """The text of the statement that introduces a value, without its comments."""
    for occurrence in view.occurrences:
        symbol = occurrence.symbol
        if occurrence.introduces and (symbol.norm, symbol.name) == (norm, name):
            for statement in _statements_of_norm(view, norm):
                if statement.span.start <= occurrence.span.start < statement.span.end:
                    return _stripped_text(view.source, statement.span)
    return None


def _declaration_comment(view: View, name: str, norm: str) -> str:
    """The comment behind the declaration of a name."""
    return next(
        (
            candidate.notes.get(name, "")
            for candidate in view.file.norms
            if candidate.name.name == norm
        ),
        "",
    )


def _statements_of_norm(view: View, norm: str) -> Iterator[ast.Statement]:
    for candidate in view.file.norms:
        if candidate.name.name == norm:
            yield from candidate.statements


def _stripped_text(source: Source, span: Span) -> str:
    lines = source.text[span.start : span.end].split("\n")
    return "\n".join(line.strip() for line in lines)
