"""The position of the cursor in a spec: tokens, brackets and statement before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import ascii_letters, digits

from lark import Token

from metanorm.ir.ops import FORMS
from metanorm.lsp.project import View
from metanorm.syntax import ast, words
from metanorm.syntax.grammar import SOFT_STATEMENT_WORDS, parser
from metanorm.syntax.tokens import CLOSERS, OPENERS


@dataclass(frozen=True)
class CursorContext:
    """The position of the cursor, and the tokens before the word at the cursor."""

    view: View
    offset: int
    tokens: tuple[Token, ...]
    starts_line: bool
    brackets: tuple[int, ...] = field(default=())  # indices in `tokens` of the open brackets

    @property
    def last(self) -> str:
        """The text of the token before the word."""
        return str(self.tokens[-1]) if self.tokens else ""

    @property
    def norm(self) -> ast.Norm | None:
        """The norm around the cursor, or above it if its closing brace is missing."""
        norms_above = [n for n in self.view.file.norms if n.span.start <= self.offset]
        return norms_above[-1] if norms_above else None

    @property
    def statement(self) -> str:
        """The first word of the statement; empty outside of norms."""
        return self._statement_before(len(self.tokens))

    def _statement_before(self, end: int) -> str:
        """The last word that begins a statement and is no name, as `scale = 2` in an example."""
        for position in reversed(range(end)):
            following = self.tokens[position + 1 : position + 2]
            is_name = bool(following) and following[0] == "="
            word = self.tokens[position]
            if word in SOFT_STATEMENT_WORDS and not self._is_first(position):
                continue  # a value of that name: `1 + example`
            if word in words.STATEMENTS and not is_name:
                return str(word)
        return ""

    def _is_first(self, position: int) -> bool:
        """Whether a token is the first one on its line or in its braces."""
        before = self.tokens[position - 1] if position else None
        return before is None or before == "{" or before.line != self.tokens[position].line

    @property
    def entry(self) -> ast.Entry | None:
        """The entry around the cursor."""
        for statement in self.norm.statements if self.norm is not None else ():
            span = statement.span
            if isinstance(statement, ast.Entry) and span.start <= self.offset <= span.end:
                return statement
        return None

    @property
    def in_backward(self) -> bool:
        """Whether the cursor is inside of `backward`."""
        braces = (b for b in self.brackets if self.tokens[b] == "{")
        return any(self._statement_before(brace) == "backward" for brace in braces)

    @property
    def opener(self) -> Token | None:
        """The innermost open bracket."""
        return self.tokens[self.brackets[-1]] if self.brackets else None

    @property
    def called(self) -> str:
        """The function whose argument list contains the cursor; empty outside of calls."""
        if self.opener is None or self.opener != "(" or self.brackets[-1] == 0:
            return ""
        name = self.tokens[self.brackets[-1] - 1]
        return str(name) if name.type == "NAME" else ""

    @property
    def in_repeat(self) -> bool:
        """Whether the cursor is inside a `repeat`."""
        braces = (b for b in self.brackets if self.tokens[b] == "{")
        return any(self._statement_before(brace) == "repeat" for brace in braces)

    @property
    def leading_word(self) -> str:
        """The word or sign that starts the part at the cursor: `over`, `=`, `(`."""
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
        """Whether the token before the word ends an expression or an axis."""
        last = self.tokens[-1] if self.tokens else None
        ends = last is not None and last.type in ("NAME", "NUMBER", "RPAR", "RSQB")
        return ends and self.last not in LEADING_WORDS


NAME_CHARACTERS = f"{ascii_letters}{digits}_"
# Of one item of a list, up to its comma.
LEADING_WORDS_OF_ITEM = frozenset("= where weight track from like as".split())
LEADING_WORDS = LEADING_WORDS_OF_ITEM | {
    *("over", "per", "by", "of", "for", "in", "init"),
    *words.STATEMENTS,
}


def cursor_context(view: View, offset: int) -> CursorContext:
    """The context of the cursor at an offset. The word that is being written is left out."""
    text = view.source.text[:offset]
    before = text.rstrip(NAME_CHARACTERS)
    lexed = parser().lex(before, dont_ignore=True)
    tokens = tuple(t for t in lexed if t.type not in ("SPACE", "COMMENT", "UNKNOWN", "FOREIGN"))
    brackets: list[int] = []
    for position, token in enumerate(tokens):
        if token.type in OPENERS:
            brackets.append(position)
        elif token.type in CLOSERS and brackets:
            brackets.pop()
    starts_line = not before.rpartition("\n")[2].strip()
    return CursorContext(view, offset, tokens, starts_line, tuple(brackets))
