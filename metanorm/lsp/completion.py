"""Completion: what may be written at the cursor, by the tables of the language and the norm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.frontend import parsed_source
from metanorm.ir.nodes import DTYPES
from metanorm.ir.ops import DRAWS, FORMS, FUNCTIONS, MATRICES, STATISTICS, Operation
from metanorm.ir.stated import GRAD
from metanorm.lsp.cursor import LEADING_WORDS, CursorContext, cursor_context
from metanorm.lsp.hover import axes_text
from metanorm.lsp.project import View
from metanorm.resources import library_specs
from metanorm.semantics.choices import EQUALITY_OPERATORS
from metanorm.semantics.examples import MODES
from metanorm.semantics.groupings import EDGES
from metanorm.semantics.reserved import AFFINE_SWITCHES
from metanorm.semantics.symbols import CALL, OF_AXES, Occurrence, Role
from metanorm.syntax import ast, words
from metanorm.syntax.grammar import CLAUSE_WORDS, SOFT_STATEMENT_WORDS, STATEMENT_WORDS


class ItemKind(str, Enum):
    """The kind of an item, which decides its icon."""

    STATEMENT = "statement"
    WORD = "word"
    FUNCTION = "function"
    NORM = "norm"
    AXIS = "axis"
    VALUE = "value"
    OPTION = "option"
    FIELD = "field"
    SORT = "sort"
    CODE = "code"
    FILE = "file"


@dataclass(frozen=True)
class Item:
    """A completion: its text, its kind, and its meaning."""

    text: str
    kind: ItemKind
    detail: str = ""
    meaning: str = ""


IN_COMMENT = re.compile(r'(?:[^"#]|"[^"]*")*#')
IN_ALLOWANCE = re.compile(r"#\s*norm:\s*allow\s+(?:MN\d{4}\s*,\s*)*\w*$")
IN_PATH = re.compile(r'\s*use\s*"[^"]*$')


def completion(view: View, offset: int) -> list[Item]:
    """All completions at an offset, whatever part of the word is written. Editors filter them."""
    line = view.source.text[:offset].rpartition("\n")[2]
    if IN_COMMENT.match(line):
        return list(_codes()) if IN_ALLOWANCE.search(line) else []
    if IN_PATH.match(line):
        return [Item(name, ItemKind.FILE, "a spec of the library") for name in library_specs()]
    cursor = cursor_context(view, offset)
    items = {(item.text, item.kind): item for item in _items(cursor)}
    return list(items.values())


def _items(cursor: CursorContext) -> Iterator[Item]:
    """The rules, the most specific first."""
    opener, last, statement = cursor.opener, cursor.last, cursor.statement
    in_norm = any(cursor.tokens[b] == "{" for b in cursor.brackets)
    if last == ".":
        yield from _fields(cursor)
    elif last == "for":
        yield from _items_of_table(ItemKind.WORD, words.TARGETS)
    elif last == "like":
        yield from _values(cursor, ("input", "parameter"))
    elif last == "if":
        yield from (
            Item(name, ItemKind.WORD, "as layers of torch have") for name in AFFINE_SWITCHES
        )
    elif last == "as":
        yield from (Item(name, ItemKind.SORT, "a dtype") for name in DTYPES)
    elif (statement, opener) in (("input", "{"), ("entry", "(")) and last == ":":
        yield from _items_of_table(ItemKind.SORT, words.SORTS)
    elif not in_norm:
        yield from _outside_norm(cursor)
    elif last == "with":
        yield Item("self", ItemKind.WORD, meaning=words.SOFT["with"])
    elif last == "within":
        yield from _values(cursor, ("input",), sort="int")
    elif statement == "example" and not cursor.starts_line:
        yield from _in_example(cursor)
    elif opener == "{" and cursor.in_repeat and last != "=":
        yield from _values(cursor, ("value",))
        yield from _in_statement(cursor)
    elif opener == "{" and (last == "{" or cursor.starts_line):
        yield from (i for i in _statements() if i.text in STATEMENT_WORDS | SOFT_STATEMENT_WORDS)
        if statement == "example":
            yield from _in_example(cursor)
        if last in LEADING_WORDS or last in ",:+-*/^<>":
            yield from _in_statement(cursor)
    else:
        yield from _in_statement(cursor)


def _outside_norm(cursor: CursorContext) -> Iterator[Item]:
    """At the top of a file, or in the hyperparameters of a norm."""
    if not cursor.brackets:
        if cursor.starts_line or not cursor.tokens:
            yield from (i for i in _statements() if i.text in ("norm", "use"))
        elif cursor.statement == "norm":
            yield Item("for", ItemKind.WORD, meaning=words.SOFT["for"])
    elif cursor.opener == "[":
        yield from _axes(cursor)
    elif cursor.last == ":":
        yield from _items_of_table(ItemKind.SORT, words.SORTS)
    elif cursor.last == "=":
        yield from (Item(word, ItemKind.WORD) for word in (*words.LITERALS, "eye", "ones"))


def _in_statement(cursor: CursorContext) -> Iterator[Item]:
    last, leading_word, statement = cursor.last, cursor.leading_word, cursor.statement
    if cursor.opener == "[" and last == "=":
        for length in _introduced(cursor, Role.LENGTH):  # two axes may share one
            yield Item(length.symbol.name, ItemKind.VALUE, "the length of an axis")
    elif statement in ("param", "buffer") and last == "=":
        yield Item("eye", ItemKind.WORD)
    if last in CLAUSE_WORDS:
        values = {w: words.CLAUSE_VALUES[w] for w in CLAUSE_WORDS[last]}
        yield from _items_of_table(ItemKind.WORD, values)
        yield from _expression(cursor)
    elif leading_word in ("over", "reduce", "per", "affine"):
        yield from _pool(cursor)
    elif leading_word == "[" or last == "of" or statement == "axis":
        yield from _axes(cursor)
        declares = statement in ("param", "buffer", "input", "entry")
        if not declares or "=" in map(str, cursor.tokens[-8:]):
            yield from _values(cursor, ())
        if statement == "axis":
            yield from _functions({"size": FORMS["size"]})
    elif leading_word == "by":
        yield from _functions({name: FORMS[name] for name in ("softmax", "sparsestmax")})
    elif statement == "mix" and cursor.opener == "{":
        yield from _values(cursor, (), sort="moments")
        yield Item("by", ItemKind.WORD, meaning=words.SOFT["by"])
    elif last in ROLE_AFTER:
        yield from _values(cursor, (ROLE_AFTER[last],))
    elif cursor.may_end:
        yield from _after_expression(cursor)
    elif last not in ("param", "let", "buffer", "stat", "input"):
        yield from _expression(cursor)


def _in_example(cursor: CursorContext) -> Iterator[Item]:
    """In an example: what it may give or expect, numbers by name, and the words that follow."""
    last, opener = cursor.last, cursor.opener
    tokens = [str(token) for token in cursor.tokens]
    start = max(i for i, token in enumerate(tokens) if token == "example")
    expects = "gives" in tokens[start:]
    if last == "in":
        yield from (Item(mode, ItemKind.OPTION, meaning=words.OPTIONS[mode]) for mode in MODES)
    elif last in ("example", "gives") or (last == "," and opener == "{"):
        yield from _example_names(cursor, expects)
    if last in ("=", "gives", "[", ",", "-"):
        yield from (Item(word, ItemKind.WORD) for word in ("nan", "inf", *words.LITERALS))
    if opener == "{" and last not in ("=", "gives", "[", ",", "-", "in", "example"):
        follow = ("within",) if expects else ("gives",)
        yield from (Item(word, ItemKind.WORD, meaning=words.SOFT[word]) for word in follow)
        if not expects:
            yield Item("in", ItemKind.WORD, meaning="the mode of the call: `in eval`")


def _example_names(cursor: CursorContext, expects: bool) -> Iterator[Item]:
    """The names that an example can give or expect, which are those of the norm outside entries."""
    norm = cursor.norm
    if norm is None:
        return
    roles = (Role.BUFFER,) if expects else (Role.HYPER, Role.INPUT, Role.PARAM, Role.BUFFER)
    wanted = (*roles, Role.OUTPUT if expects else Role.LENGTH)
    for occurrence in cursor.view.occurrences:
        symbol = occurrence.symbol
        if symbol.norm == norm.name.name and occurrence.introduces and symbol.role in wanted:
            yield Item(symbol.name, ItemKind.VALUE, symbol.role.value)
    yield from (_outputs(norm) if expects else ())
    if not expects:  # parameters of clauses
        yield from _values(cursor, ("parameter",))
        yield from (Item(n, ItemKind.OPTION, m) for n, m in _switches(norm.statements).items())
    for name in cursor.view.buffers(norm.name.name):
        yield Item(name, ItemKind.VALUE, Role.BUFFER.value)


def _pool(cursor: CursorContext) -> Iterator[Item]:
    """In a pool: axes, matrices, and the words that follow them."""
    if cursor.last == ":":
        yield from _functions(MATRICES)
        yield from _values(cursor, ("input", "hyperparameter", "parameter"), of_pools=True)
    elif cursor.may_end:
        follow = ("where", "weight", "track", "from", "into", "per", "off")
        yield from (Item(word, ItemKind.WORD, meaning=words.SOFT[word]) for word in follow)
    else:
        yield from _axes(cursor)
        if cursor.leading_word in ("per", "affine"):
            for name in ("weight", "bias"):
                yield Item(name, ItemKind.WORD, meaning=f"the {name} alone: `affine {name}[C]`")
        if cursor.leading_word == "per" and cursor.called in DRAWS:
            yield Item(CALL, ItemKind.WORD, meaning="one number for the whole call")
        if cursor.last == "," and cursor.leading_word == "over":
            yield from _options(cursor, words.OPTIONS)


def _after_expression(cursor: CursorContext) -> Iterator[Item]:
    in_call = cursor.opener == "("
    follow = ("over", "per", "like", "as") if in_call else ("like", "as", "in", "off")
    first = ("first",) if not in_call and cursor.statement in ("param", "buffer") else ()
    switch = ("if",) if not in_call and cursor.statement == "param" else ()
    words_that_follow = (*first, *switch, *follow)
    yield from (Item(w, ItemKind.WORD, meaning=words.SOFT[w]) for w in words_that_follow)


def _expression(cursor: CursorContext) -> Iterator[Item]:
    """Values, functions and norms, and in a call also its named arguments."""
    if cursor.called in OF_AXES:
        yield from _axes(cursor)
        return
    if cursor.called in MATRICES and cursor.leading_word == "=":
        yield from (Item(word, ItemKind.WORD, "beyond the border") for word in EDGES)
        return
    if cursor.last in ("(", ",") and cursor.called:
        yield from _arguments(cursor)
    if cursor.leading_word == "=" and cursor.called:  # an axis of the norm that is called
        yield from _axes(cursor)
    if cursor.last in EQUALITY_OPERATORS:
        yield from _choices(cursor)
    yield from _values(cursor, ())
    yield from (Item(word, ItemKind.WORD) for word in ("true", "false"))
    yield from _functions({**FUNCTIONS, **STATISTICS, **FORMS, **DRAWS})
    yield from _norms(cursor)


def _choices(cursor: CursorContext) -> Iterator[Item]:
    """The strings that a hyperparameter may have, behind `mode ==`."""
    compared = str(cursor.tokens[-2]) if len(cursor.tokens) > 1 else ""
    for norm in cursor.view.file.norms:
        if norm.span.start <= cursor.offset <= norm.span.end:
            hypers = (hyper for hyper in norm.hypers if hyper.name.name == compared)
            texts = (f'"{choice.value}"' for hyper in hypers for choice in hyper.choices)
            yield from (Item(text, ItemKind.WORD, f"a value of `{compared}`") for text in texts)


# ---- items


def _items_of_table(kind: ItemKind, table: Mapping[str, str]) -> Iterator[Item]:
    return (Item(word, kind, meaning=meaning) for word, meaning in table.items())


def _statements() -> Iterator[Item]:
    for word, meaning in words.STATEMENTS.items():
        yield Item(word, ItemKind.STATEMENT, words.usage(word), meaning)


def _functions(rows: Mapping[str, Operation]) -> Iterator[Item]:
    return (Item(row.name, ItemKind.FUNCTION, row.usage, row.meaning) for row in rows.values())


def _codes() -> Iterator[Item]:
    for code in all_codes():
        page = manual_page(code)
        if page.severity is Severity.WARNING:
            yield Item(code, ItemKind.CODE, page.title)


def _axes(cursor: CursorContext) -> Iterator[Item]:
    """The axes of the norm, groups of axes with a star."""
    for occurrence in _introduced(cursor, Role.AXIS):
        before = cursor.view.source.text[: occurrence.span.start].rstrip()
        starred = before.endswith("*") and cursor.last != "*"
        yield Item("*" * starred + occurrence.symbol.name, ItemKind.AXIS, "an axis")


def _introduced(cursor: CursorContext, role: Role) -> Iterator[Occurrence]:
    """Where the norm introduces names of a role."""
    for occurrence in cursor.view.occurrences:
        is_of_norm = cursor.norm is not None and occurrence.norm == cursor.norm.name.name
        if is_of_norm and occurrence.symbol.role is role and occurrence.introduces:
            yield occurrence


ROLE_AFTER = {"update": "buffer", "gradient": "input"}  # what these statements are about
VALUE_ROLES = (Role.HYPER, Role.INPUT, Role.PARAM, Role.BUFFER, Role.VALUE)
POOL_SORTS = ("int", "a matrix", "edges")  # sorts of values that say how an axis is pooled
POOLING_INPUTS = ("index", "offsets", "edges", "matrix")  # sorts of inputs that do


def _values(
    cursor: CursorContext, roles: Iterable[str], sort: str = "", of_pools: bool = False
) -> Iterator[Item]:
    """The names of values of the norm: those with one of the roles, or all without roles."""
    norm, roles = cursor.norm, tuple(roles)
    if norm is None:
        return
    values = cursor.view.values(norm.name.name)
    for name, value in values.items():
        fits = not roles or value.role in roles
        if fits and (not sort or value.sort == sort):
            if of_pools and value.sort not in POOL_SORTS:
                continue
            yield Item(name, ItemKind.VALUE, f"{value.role} {axes_text(value)}".strip())
    if of_pools and not values:
        yield from _pooling_inputs(norm)
    if sort or of_pools:
        return
    if not roles and cursor.in_backward:
        yield Item(GRAD, ItemKind.VALUE, meaning="the gradient of the output, as it arrives")
    name = norm.name.name
    owners = (name, f"{name}.{cursor.entry.name.name}") if cursor.entry is not None else (name,)
    for occurrence in cursor.view.occurrences:
        symbol = occurrence.symbol
        is_introduced = occurrence.introduces and symbol.norm in owners
        fits = symbol.role in VALUE_ROLES and (not roles or symbol.role.value in roles)
        if is_introduced and fits and symbol.name not in values:
            yield Item(symbol.name, ItemKind.VALUE, symbol.role.value)


def _pooling_inputs(norm: ast.Norm) -> Iterator[Item]:
    """The inputs that can pool, by their declarations, for a norm with syntax errors."""
    for statement in norm.statements:
        for item in statement.items if isinstance(statement, ast.Input) else ():
            if item.sort is not None and item.sort.name in POOLING_INPUTS:
                yield Item(item.name.name, ItemKind.VALUE, item.sort.name)


def _norms(cursor: CursorContext) -> Iterator[Item]:
    """The norms that can be called: those of this file and of the files it uses."""
    enclosing_norm = cursor.norm.name.name if cursor.norm is not None else ""
    for name in (cursor.view.name, *(source for _, source in cursor.view.used())):
        for norm in parsed_source(cursor.view.sources[name])[0].file.norms:
            if norm.name.name != enclosing_norm:
                yield Item(norm.name.name, ItemKind.NORM, "a norm", " ".join(norm.doc))


def _arguments(cursor: CursorContext) -> Iterator[Item]:
    """The named arguments of a call: hyperparameters and switches, or options of a function."""
    source = cursor.view.source_of_norm(cursor.called)
    if source is None:
        rows = {**FORMS, **FUNCTIONS, **MATRICES}
        names = rows[cursor.called].parameters if cursor.called in rows else ()
        options = {n.rstrip("?"): "" for n in names if n.endswith("?") or n in words.OPTIONS}
        yield from _options(cursor, options)
        return
    norms = parsed_source(cursor.view.sources[source])[0].file.norms
    hypers = {h.name.name: "" for n in norms if n.name.name == cursor.called for h in n.hypers}
    statements = [s for n in norms if n.name.name == cursor.called for s in n.statements]
    inputs = (s for s in statements if isinstance(s, ast.Input))
    hypers |= {d.axis.name: "one of its axes" for s in inputs for i in s.items for d in i.dims}
    yield from _options(cursor, {**hypers, **_switches(statements)})


def _switches(statements: Iterable[ast.Statement]) -> dict[str, str]:
    """The switches that a norm may have, each with its meaning."""
    params = [i for s in statements if isinstance(s, ast.Param) for i in s.items]
    clauses = {"affine": "whether it learns its affine map", "track": "whether it keeps statistics"}
    named = {p.switch.name: f"whether it learns `{p.name.name}`" for p in params if p.switch}
    return clauses | named


def _fields(cursor: CursorContext) -> Iterator[Item]:
    """The fields of moments, and the outputs of a norm that a `let` calls."""
    yield from _items_of_table(ItemKind.FIELD, words.FIELDS)
    name = str(cursor.tokens[-2]) if len(cursor.tokens) > 1 else ""
    if name == GRAD and cursor.in_backward and cursor.norm is not None:
        yield from _outputs(cursor.norm)
    for statement in cursor.norm.statements if cursor.norm is not None else ():
        if isinstance(statement, ast.Let) and isinstance(statement.value, ast.Call):
            called = statement.value.function.name
            source = cursor.view.source_of_norm(called) if statement.name.name == name else None
            norms = parsed_source(cursor.view.sources[source])[0].file.norms if source else ()
            for norm in (n for n in norms if n.name.name == called):
                yield from _outputs(norm)


def _outputs(norm: ast.Norm) -> Iterator[Item]:
    for statement in norm.statements:
        for item in statement.items if isinstance(statement, ast.Output) else ():
            name = item.name or item.value
            if isinstance(name, (ast.Identifier, ast.Name)):
                yield Item(name.name, ItemKind.FIELD, "an output")


def _options(cursor: CursorContext, table: Mapping[str, str]) -> Iterator[Item]:
    mark = ":" if cursor.called == "mode" else " ="
    for name, meaning in table.items():
        labelled = name in ("train", "eval")
        if labelled == (cursor.called == "mode"):
            yield Item(f"{name}{mark} ", ItemKind.OPTION, "named", meaning)
