"""Text to Lark tree, with every syntax error of the text and never an exception.

The lexer knows words, the parser's state decides whether a word is a keyword
or a name. After an error the parser puts in what is missing, or drops the
statement and goes on with the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lark import Token, Tree
from lark.parsers.lalr_analysis import Shift

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.syntax import (
    MissingPiece,
    NestedTooDeep,
    ReservedWord,
    UnexpectedCharacter,
    UnexpectedToken,
    UnknownClause,
)
from metanorm.source import Source, Span
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS, STATEMENT_WORDS, parser

MAX_DEPTH = 64
MAX_ERRORS = 50
MISSING = "<missing>"

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = {"RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`"}
STATEMENT_STARTS = frozenset(word.upper() for word in RESERVED_WORDS)
SYNC = STATEMENT_STARTS | {"RBRACE", "$END"}

# What a person calls a token. Operators are left out: they may follow any expression.
READABLE = CLOSERS | {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "LPAR": "`(`",
    "COMMA": "`,`",
    "EQUAL": "`=`",
    "LBRACE": "`{`",
    "COLON": "`:`",
    "LSQB": "`[`",
    "OVER": "`over`",
    "BY": "`by`",
    "STAR": "`*`",
}


@dataclass
class ParsedText:
    """A tree, the comments beside it, and the norms that errors make unfit for checking."""

    tree: Tree[Any] = field(default_factory=lambda: Tree("start", []))
    comments: list[Token] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


def tree_from_text(source: Source, problems: Collector) -> ParsedText:
    """Parse one file. Where it has errors, the tree holds what could be understood."""
    result = ParsedText()
    tokens = _tokens(source, problems, result.comments)
    if tokens is not None:
        _Parse(source, problems, result, tokens).run()
    return result


def _tokens(source: Source, problems: Collector, comments: list[Token]) -> list[Token] | None:
    """The tokens of a text and its end, comments apart; `None` where it is nested too deep."""
    tokens, depth = [], 0
    for token in parser().lex(source.text, dont_ignore=True):
        if token.type == "COMMENT":
            comments.append(token)
        elif token.type != "SPACE":
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            if depth > MAX_DEPTH:
                problems.add(NestedTooDeep(span_of(source, token), MAX_DEPTH))
                return None
            tokens.append(token)
    length = len(source.text)
    return [*tokens, Token("$END", "", start_pos=length, end_pos=length)]


def span_of(source: Source, token: Token) -> Span:
    """Where a token stands."""
    return source.span(token.start_pos or 0, token.end_pos or 0)


class _Parse:
    def __init__(
        self, source: Source, problems: Collector, result: ParsedText, tokens: list[Token]
    ) -> None:
        self.source = source
        self.problems = problems
        self.result = result
        self.tokens = tokens
        self.state = parser().parse_interactive("").parser_state
        self.brackets: list[Token] = []
        self.norm: str | None = None
        self.statement = ""  # the word that began the statement being read
        self.last: Token | None = None
        self.quiet = False  # what follows a stray character in a statement is its echo
        self.errors = 0
        self.put_in_at = (-1, 0)

    def run(self) -> None:
        position = 0
        while self.errors < MAX_ERRORS:
            token = self.tokens[position]
            if token.type == "$END" and self._accepts("$END"):
                self.result.tree = self.state.feed_token(token, is_end=True)
                return
            following = self.tokens[min(position + 1, len(self.tokens) - 1)]
            if self._feed(token, following):
                self._note(token, following)
                position += 1
            else:
                position = self._recover(position)

    # ---- the parser's state

    def _accepts(self, kind: str, depth: int | None = None) -> bool:
        """Whether a token of this kind can follow, with `depth` states on the stack.

        Played through to the shift: a LALR table alone also lists tokens that
        only another context would accept.
        """
        states = self.state.parse_conf.states
        stack = self.state.state_stack[:depth]
        while kind in states[stack[-1]]:
            action, argument = states[stack[-1]][kind]
            if action is Shift:
                return True
            del stack[len(stack) - len(argument.expansion) :]
            stack.append(states[stack[-1]][argument.origin.name][1])
            if stack[-1] == self.state.parse_conf.end_state:
                return kind == "$END"
        return False

    def _feed(self, token: Token, following: Token) -> bool:
        """Shift the token, as a name where the grammar has no keyword in this place."""
        if not self._accepts(token.type):
            is_function = token == "affine" and following.type == "LPAR"
            is_free = token.isidentifier() and token not in RESERVED_WORDS
            if not (self._accepts("NAME") and (is_function or is_free)):
                return False
            token = Token.new_borrow_pos("NAME", str(token), token)
        self.state.feed_token(token)
        self.last = token
        return True

    def _note(self, token: Token, following: Token) -> None:
        """Keep count of brackets and of the norm we are in."""
        if token.type in OPENERS:
            self.brackets.append(token)
        elif token.type in CLOSERS and self.brackets:
            self.brackets.pop()
            if not self.brackets and token.type == "RBRACE":
                self.norm = None
        if token.type == "NORM":
            self.norm = str(following)
        if token.type in STATEMENT_STARTS:
            self.quiet = False
            self.statement = token.type

    # ---- after an error

    def _recover(self, position: int) -> int:
        """Report the error at `position`; returns where to go on."""
        token, following = (
            self.tokens[position],
            self.tokens[min(position + 1, len(self.tokens) - 1)],
        )
        if token.type == "UNKNOWN":
            self._report(UnexpectedCharacter(span_of(self.source, token), str(token)))
            self.quiet = True
            return position + 1
        if token in RESERVED_WORDS and self._accepts("NAME") and not self._starts_line(token):
            self._report(ReservedWord(span_of(self.source, token), str(token)))
            self._feed(Token.new_borrow_pos("NAME", str(token) + "_", token), following)
            return position + 1
        if self._accepts("REDUCE") and token.isidentifier() and token not in RESERVED_WORDS:
            known = tuple(STATEMENT_WORDS | SOFT_STATEMENT_WORDS)
            assigns = following.type == "EQUAL"
            span = span_of(self.source, token)
            self._report(UnknownClause(span, str(token), known, assigns))
            return self._skip(position + 1)
        if self._ends_statement(token) and self._put_in(position):
            return position
        self._report(self._unexpected(token))
        return self._skip(position if token.type in SYNC else position + 1)

    def _starts_line(self, token: Token) -> bool:
        start = token.start_pos or 0
        return not self.source.text[self.source.text.rfind("\n", 0, start) + 1 : start].strip()

    def _ends_statement(self, token: Token) -> bool:
        """Whether what is being read must have ended before this token."""
        return token.type in SYNC | CLOSERS.keys() | {"LBRACE"} or self._starts_line(token)

    def _put_in(self, position: int) -> bool:
        """Feed the piece that is missing before `position`, if it is clear which one is."""
        times = self.put_in_at[1] + 1 if self.put_in_at[0] == position else 1
        if times > 2 * MAX_DEPTH or self.last is None:
            return False
        self.put_in_at = (position, times)
        place = span_of(self.source, self.last).after()
        if self._accepts("NAME") and not self._accepts("REDUCE"):
            self._report(
                MissingPiece(place, "an expression" if self._accepts("NUMBER") else "a name")
            )
            self.state.feed_token(Token.new_borrow_pos("NAME", MISSING, self.last))
            return True
        closer = OPENERS[self.brackets[-1].type] if self.brackets else ""
        if self._accepts(closer):
            opened = span_of(self.source, self.brackets.pop())
            self._report(MissingPiece(place, CLOSERS[closer], opened))
            self.state.feed_token(Token.new_borrow_pos(closer, "", self.last))
            return True
        return False

    def _unexpected(self, token: Token) -> Problem:
        expected = sorted(shown for kind, shown in READABLE.items() if self._accepts(kind))
        before = self.last.type if self.last is not None else ""
        hint = ""
        if token.type == "STAR" and before == "STAR":
            hint = "a power is written `x^2`"
        elif token.type == "EQUAL" and before == "EQUAL":
            hint = "values are compared with `==`, without a space"
        elif token.type == "STRING":
            hint = 'a string stands only after `use`, as in `use "batch_norm.norm"`'
        elif before == "EQUAL" and self.statement == "AXIS":
            hint = (
                "`axis C = (G = groups, D)` splits an axis; a new one gets its length "
                "where it is introduced: `param w[H = 8]`"
            )
        elif token.type == "NORM" and self.norm is not None:
            hint = "norms stand side by side, not inside each other"
        found = "end of file" if token.type == "$END" else f"`{token}`"
        return UnexpectedToken(span_of(self.source, token), found, tuple(expected), hint)

    def _skip(self, position: int) -> int:
        """Go on to the next statement, and drop what was understood of the broken one."""
        while not (self.tokens[position].type in SYNC and self._unwind(self.tokens[position].type)):
            if self.tokens[position].type == "$END":
                self._unwind("$END", through_braces=True)
                break
            position += 1
        return position

    def _unwind(self, kind: str, through_braces: bool = False) -> bool:
        """Pop states until a token of this kind can follow; inside a norm, not out of it."""
        inside = self.norm is not None and kind not in ("NORM", "USE") and not through_braces
        for depth in range(len(self.state.state_stack), 0, -1):
            if self._accepts(kind, depth):
                del self.state.state_stack[depth:]
                del self.state.value_stack[depth - 1 :]
                while self.brackets and (self.brackets[-1].type != "LBRACE" or not inside):
                    self.brackets.pop()
                return True
        return False

    def _report(self, problem: Problem) -> None:
        self.errors += 1
        if self.norm is not None:
            self.result.broken.add(self.norm)
        if not self.quiet:
            self.problems.add(problem)
