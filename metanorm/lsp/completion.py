"""What may stand at a place, from the tables of the language and the names of the norm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from lark import Token

from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.frontend import parsed_source
from metanorm.ir.nodes import DTYPES
from metanorm.ir.ops import DRAWS, FORMS, FUNCTIONS, MATRICES, STATISTICS, Operation
from metanorm.lsp.hover import axes_text
from metanorm.lsp.project import View
from metanorm.semantics.choices import COMPARED
from metanorm.semantics.pools import EDGES
from metanorm.semantics.symbols import OF_AXES, Role
from metanorm.syntax import ast, words
from metanorm.syntax.grammar import CLAUSE_WORDS, STATEMENT_WORDS, parser
from metanorm.syntax.tokens import CLOSERS, OPENERS
from metanorm.workspace import library_specs


class ItemKind(str, Enum):
    """What an item is, for the icon beside it."""

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
    """A text that may be written, what it is, and what it means."""

    text: str
    sort: ItemKind
    detail: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class CursorContext:
    """Where the cursor is: what stands before the word that is being written."""

    view: View
    offset: int
    tokens: tuple[Token, ...]
    starts_line: bool
    brackets: tuple[int, ...] = field(default=())  # positions in `tokens` of those that are open

    @property
    def last(self) -> str:
        """The text of the token before."""
        return str(self.tokens[-1]) if self.tokens else ""

    @property
    def norm(self) -> ast.Norm | None:
        """The norm around the place, or above it where its end is missing."""
        above = [n for n in self.view.file.norms if n.span.start <= self.offset]
        return above[-1] if above else None

    @property
    def statement(self) -> str:
        """The word that began the statement; nothing outside of norms."""
        starts = (t for t in reversed(self.tokens) if t in words.STATEMENTS)
        return str(next(starts, ""))

    @property
    def opener(self) -> Token | None:
        """The innermost bracket that is open."""
        return self.tokens[self.brackets[-1]] if self.brackets else None

    @property
    def called(self) -> str:
        """The function in whose brackets the place is."""
        if self.opener is None or self.opener != "(" or self.brackets[-1] == 0:
            return ""
        name = self.tokens[self.brackets[-1] - 1]
        return str(name) if name.type == "NAME" else ""

    @property
    def in_repeat(self) -> bool:
        """Whether the statements around are those of a `repeat`."""
        return [str(self.tokens[b]) for b in self.brackets].count("{") > 1

    @property
    def lead(self) -> str:
        """The word or sign that says what the place is a part of: `over`, `where`, `=`, `(`."""
        depth, behind, is_listed = 0, "", False
        for token in reversed(self.tokens):
            if token.type in CLOSERS:
                depth += 1
            elif token.type in OPENERS and depth:
                depth -= 1
            elif not depth and token.type in OPENERS:
                return str(token)
            elif not depth and token in LEADING_WORDS:
                is_form = behind == "(" and str(token) in FORMS  # `affine(e per C)`
                if not is_form and not (is_listed and token in LEADING_WORDS_OF_ITEM):
                    return str(token)
            is_listed = is_listed or (not depth and token == ",")
            behind = str(token)
        return ""

    @property
    def may_end(self) -> bool:
        """Whether an expression or an axis stands right before."""
        last = self.tokens[-1] if self.tokens else None
        ends = last is not None and last.type in ("NAME", "NUMBER", "RPAR", "RSQB")
        return ends and self.last not in LEADING_WORDS


LEADING_WORDS = {
    "over",
    "where",
    "weight",
    "track",
    "per",
    "by",
    "of",
    "for",
    "in",
    "init",
    "like",
    "as",
}
LEADING_WORDS |= {"from", "=", *words.STATEMENTS}
LEADING_WORDS_OF_ITEM = {
    "=",
    "where",
    "weight",
    "track",
    "from",
    "like",
    "as",
}  # of one item of a list, up to its comma
IN_COMMENT = re.compile(r'(?:[^"#]|"[^"]*")*#')
IN_ALLOWANCE = re.compile(r"#\s*norm:\s*allow\s+(?:MN\d{4}\s*,\s*)*\w*$")
IN_PATH = re.compile(r'\s*use\s*"[^"]*$')


def completion(view: View, offset: int) -> list[Item]:
    """What may stand at a place, whatever of it has been written."""
    line = view.source.text[:offset].rpartition("\n")[2]
    if IN_COMMENT.match(line):
        return list(_codes()) if IN_ALLOWANCE.search(line) else []
    if IN_PATH.match(line):
        return [Item(name, ItemKind.FILE, "a spec of the library") for name in library_specs()]
    place = _cursor_context(view, offset)
    found = {(item.text, item.sort): item for item in _items(place)}
    return list(found.values())


def _cursor_context(view: View, offset: int) -> CursorContext:
    text = view.source.text[:offset]
    before = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    lexed = parser().lex(before, dont_ignore=True)
    tokens = tuple(t for t in lexed if t.type not in ("SPACE", "COMMENT", "UNKNOWN", "FOREIGN"))
    brackets: list[int] = []
    for position, token in enumerate(tokens):
        if token.type in OPENERS:
            brackets.append(position)
        elif token.type in CLOSERS and brackets:
            brackets.pop()
    starts = not before.rpartition("\n")[2].strip()
    return CursorContext(view, offset, tokens, starts, tuple(brackets))


def _items(place: CursorContext) -> Iterator[Item]:
    """The rules, from the most particular one on."""
    opener, last, statement = place.opener, place.last, place.statement
    in_norm = any(place.tokens[b] == "{" for b in place.brackets)
    if last == ".":
        yield from _fields(place)
    elif last == "for":
        yield from _items_of_table(ItemKind.WORD, words.TARGETS)
    elif last == "like":
        yield from _values(place, ("input", "parameter"))
    elif last == "as":
        yield from (Item(name, ItemKind.SORT, "a dtype") for name in DTYPES)
    elif statement == "input" and last == ":" and opener == "{":
        yield from _items_of_table(ItemKind.SORT, words.SORTS)
    elif not in_norm:
        yield from _outside_norm(place)
    elif last == "with":
        yield Item("self", ItemKind.WORD, meaning=words.SOFT["with"])
    elif opener == "{" and place.in_repeat and last != "=":
        yield from _values(place, ("value",))
        yield from _in_statement(place)
    elif opener == "{" and (last == "{" or place.starts_line):
        yield from (i for i in _statements() if i.text in STATEMENT_WORDS | {"shift", "scale"})
        if last in LEADING_WORDS or last in ",:+-*/^<>":
            yield from _in_statement(place)
    else:
        yield from _in_statement(place)


def _outside_norm(place: CursorContext) -> Iterator[Item]:
    """At the top of a file, or between the brackets behind the name of a norm."""
    if not place.brackets:
        if place.starts_line or not place.tokens:
            yield from (i for i in _statements() if i.text in ("norm", "use"))
        elif place.statement == "norm":
            yield Item("for", ItemKind.WORD, meaning=words.SOFT["for"])
    elif place.opener == "[":
        yield from _axes(place)
    elif place.last == ":":
        yield from _items_of_table(ItemKind.SORT, words.SORTS)
    elif place.last == "=":
        yield from (Item(word, ItemKind.WORD) for word in (*words.LITERALS, "eye", "ones"))


def _in_statement(place: CursorContext) -> Iterator[Item]:
    last, lead, statement = place.last, place.lead, place.statement
    if last in CLAUSE_WORDS:
        wanted = {w: words.CLAUSE_VALUES[w] for w in CLAUSE_WORDS[last]}
        yield from _items_of_table(ItemKind.WORD, wanted)
        yield from _expression(place)
    elif lead in ("over", "reduce", "per", "affine"):
        yield from _pool(place)
    elif lead == "[" or last == "of" or statement == "axis":
        yield from _axes(place)
        if statement not in ("param", "buffer", "input") or "=" in map(str, place.tokens[-8:]):
            yield from _values(place, ())
    elif lead == "by":
        yield from _functions({name: FORMS[name] for name in ("softmax", "sparsestmax")})
    elif statement == "mix" and place.opener == "{":
        yield from _values(place, (), sort="moments")
        yield Item("by", ItemKind.WORD, meaning=words.SOFT["by"])
    elif last == "update":
        yield from _values(place, ("buffer",))
    elif place.may_end:
        yield from _after_expression(place)
    elif last not in ("param", "let", "buffer", "stat", "input"):
        yield from _expression(place)


def _pool(place: CursorContext) -> Iterator[Item]:
    """Axes, how they pool, and the words that follow them."""
    if place.last == ":":
        yield from _functions(MATRICES)
        yield from _values(place, ("input", "hyperparameter", "parameter"), of_pools=True)
    elif place.may_end:
        follow = ("where", "weight", "track", "from", "into", "per", "off")
        yield from (Item(word, ItemKind.WORD, meaning=words.SOFT[word]) for word in follow)
    else:
        yield from _axes(place)
        if place.lead in ("per", "affine"):
            yield Item("weight", ItemKind.WORD, meaning="the weight alone: `affine weight[C]`")
            yield Item("bias", ItemKind.WORD, meaning="the bias alone: `affine bias[C]`")
        if place.last == "," and place.lead == "over":
            yield from _options(place, words.OPTIONS)


def _after_expression(place: CursorContext) -> Iterator[Item]:
    in_call = place.opener == "("
    follow = ("over", "per", "like", "as") if in_call else ("like", "as", "in", "off")
    first = ("first",) if not in_call and place.statement in ("param", "buffer") else ()
    words_that_follow = (*first, *follow)
    yield from (Item(w, ItemKind.WORD, meaning=words.SOFT[w]) for w in words_that_follow)


def _expression(place: CursorContext) -> Iterator[Item]:
    """Values, functions and norms; in a call, what it has by name, too."""
    if place.called in OF_AXES:
        yield from _axes(place)
        return
    if place.called in MATRICES and place.lead == "=":
        yield from (Item(word, ItemKind.WORD, "beyond the border") for word in EDGES)
        return
    if place.last in ("(", ",") and place.called:
        yield from _arguments(place)
    if place.lead == "=" and place.called:  # an axis of the norm that is called
        yield from _axes(place)
    if place.last in COMPARED:
        yield from _choices(place)
    yield from _values(place, ())
    yield from (Item(word, ItemKind.WORD) for word in ("true", "false"))
    yield from _functions({**FUNCTIONS, **STATISTICS, **FORMS, **DRAWS})
    yield from _norms(place)


def _choices(place: CursorContext) -> Iterator[Item]:
    """The strings that a hyperparameter may be, behind `mode ==`."""
    compared = str(place.tokens[-2]) if len(place.tokens) > 1 else ""
    for norm in place.view.file.norms:
        if norm.span.start <= place.offset <= norm.span.end:
            hypers = (hyper for hyper in norm.hypers if hyper.name.name == compared)
            texts = (f'"{choice.value}"' for hyper in hypers for choice in hyper.choices)
            yield from (Item(text, ItemKind.WORD, f"a value of `{compared}`") for text in texts)


# ---- items


def _items_of_table(sort: ItemKind, table: Mapping[str, str]) -> Iterator[Item]:
    return (Item(word, sort, meaning=meaning) for word, meaning in table.items())


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


def _axes(place: CursorContext) -> Iterator[Item]:
    """The axes of the norm, groups with their star."""
    for occurrence in place.view.occurrences:
        mine = place.norm is not None and occurrence.norm == place.norm.name.name
        if mine and occurrence.symbol.role is Role.AXIS and occurrence.introduces:
            before = place.view.source.text[: occurrence.span.start].rstrip()
            starred = before.endswith("*") and place.last != "*"
            yield Item("*" * starred + occurrence.symbol.name, ItemKind.AXIS, "an axis")


VALUE_ROLES = (Role.HYPER, Role.INPUT, Role.PARAM, Role.BUFFER, Role.VALUE)
POOL_SORTS = ("int", "a matrix", "edges")  # of values that say how an axis pools


def _values(
    place: CursorContext, roles: Iterable[str], sort: str = "", of_pools: bool = False
) -> Iterator[Item]:
    """The names of the norm: those of some roles, all where none is given."""
    norm, roles = place.norm, tuple(roles)
    if norm is None:
        return
    known = place.view.values(norm.name.name)
    for name, value in known.items():
        fits = not roles or value.what in roles
        if fits and (not sort or value.sort == sort):
            if of_pools and value.sort not in POOL_SORTS:
                continue
            yield Item(name, ItemKind.VALUE, f"{value.what} {axes_text(value)}".strip())
    if of_pools and not known:
        yield from _pooling_inputs(norm)
    if sort or of_pools:
        return
    for occurrence in place.view.occurrences:
        symbol = occurrence.symbol
        mine = occurrence.introduces and symbol.norm == norm.name.name
        fits = symbol.role in VALUE_ROLES and (not roles or symbol.role.value in roles)
        if mine and fits and symbol.name not in known:
            yield Item(symbol.name, ItemKind.VALUE, symbol.role.value)


def _pooling_inputs(norm: ast.Norm) -> Iterator[Item]:
    """The inputs that pool, as their declarations say, where the norm has syntax errors."""
    for statement in norm.statements:
        for item in statement.items if isinstance(statement, ast.Input) else ():
            if item.sort is not None and item.sort.name in ("index", "edges", "matrix"):
                yield Item(item.name.name, ItemKind.VALUE, item.sort.name)


def _norms(place: CursorContext) -> Iterator[Item]:
    """The norms that can be called: of this file and those that it uses."""
    own = place.norm.name.name if place.norm is not None else ""
    for name in (place.view.name, *(found for _, found in place.view.used())):
        for norm in parsed_source(place.view.sources[name])[0].file.norms:
            if norm.name.name != own:
                yield Item(norm.name.name, ItemKind.NORM, "a norm", " ".join(norm.doc))


def _arguments(place: CursorContext) -> Iterator[Item]:
    """What a call has by name: hyperparameters and switches of a norm, options of a function."""
    home = place.view.home(place.called)
    if home is None:
        rows = {**FORMS, **FUNCTIONS, **MATRICES}
        names = rows[place.called].parameters if place.called in rows else ()
        options = {n.rstrip("?"): "" for n in names if n.endswith("?") or n in words.OPTIONS}
        yield from _options(place, options)
        return
    norms = parsed_source(place.view.sources[home])[0].file.norms
    hypers = {h.name.name: "" for n in norms if n.name.name == place.called for h in n.hypers}
    norm = next((n for n in norms if n.name.name == place.called), None)
    inputs = norm.statements if norm is not None else ()
    items = [i for s in inputs if isinstance(s, ast.Input) for i in s.items]
    hypers |= {d.axis.name: "one of its axes" for item in items for d in item.dims}
    switches = {
        "affine": "whether it learns its affine map",
        "track": "whether it keeps statistics",
    }
    yield from _options(place, {**hypers, **switches})


def _fields(place: CursorContext) -> Iterator[Item]:
    """Of moments; or of a `let` that calls a norm, its outputs."""
    yield from _items_of_table(
        ItemKind.FIELD, {"mean": "the mean of each pool", "var": "its variance"}
    )
    value = str(place.tokens[-2]) if len(place.tokens) > 1 else ""
    for statement in place.norm.statements if place.norm is not None else ():
        if isinstance(statement, ast.Let) and isinstance(statement.value, ast.Call):
            called = statement.value.function.name
            home = place.view.home(called) if statement.name.name == value else None
            norms = parsed_source(place.view.sources[home])[0].file.norms if home else ()
            for norm in (n for n in norms if n.name.name == called):
                yield from _outputs(norm)


def _outputs(norm: ast.Norm) -> Iterator[Item]:
    for statement in norm.statements:
        for item in statement.items if isinstance(statement, ast.Output) else ():
            name = item.name or item.value
            if isinstance(name, (ast.Identifier, ast.Name)):
                yield Item(name.name, ItemKind.FIELD, "an output")


def _options(place: CursorContext, table: Mapping[str, str]) -> Iterator[Item]:
    mark = ":" if place.called == "mode" else " ="
    for name, meaning in table.items():
        labelled = name in ("train", "eval")
        if labelled == (place.called == "mode"):
            yield Item(f"{name}{mark} ", ItemKind.OPTION, "named", meaning)
