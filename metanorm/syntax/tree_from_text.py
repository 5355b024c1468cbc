"""Text to Lark tree, with every syntax error of the text and never an exception.

The lexer knows words, the parser's state decides whether a word is a keyword
or a name. After an error the parser puts in what is missing, or drops the
statement and goes on with the next one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from lark import Token, Tree
from lark.parsers.lalr_analysis import Shift

from metanorm.diagnostics.characters import NestedTooDeep, ReservedWord, UnexpectedCharacter
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.names import NameTooLong
from metanorm.diagnostics.suggest import shortened
from metanorm.diagnostics.syntax import MissingPiece, UnexpectedToken, UnknownClause
from metanorm.source import Source, Span
from metanorm.syntax.foreign_forms import foreign_form_hint
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS, STATEMENT_WORDS, parser
from metanorm.syntax.hints import expected_tokens, fix, hint
from metanorm.syntax.tokens import (
    CLOSERS,
    GOES_ON,
    MAX_DEPTH,
    MAX_NAME,
    NO_TOKENS,
    OPENERS,
    SOFT_STARTS,
    STATEMENT_STARTS,
    SYNC,
    is_word,
    span_of,
    tokens_of,
)

MAX_ERRORS = 50
MOST_BEFORE = 30  # tokens that a help line looks at
MISSING = "<missing>"
SWITCHES = ("affine", "track")  # of a norm that is called: `BatchNorm(x, track = false)`
QUOTES = "'\"`‘’“”«»"


@dataclass
class ParsedText:
    """A tree, the comments beside it, and the norms that errors make unfit for checking."""

    tree: Tree[Any] = field(default_factory=lambda: Tree("start", []))
    comments: list[Token] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


def tree_from_text(source: Source, problems: Collector) -> ParsedText:
    """Parse one file. Where it has errors, the tree holds what could be understood."""
    result = ParsedText()
    _Parse(source, problems, result, tokens_of(source, problems, result.comments)).run()
    return result


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
        self.surplus = 0  # braces that were opened twice
        self.foreign: set[str] = set()  # reported once, however often they stand there

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
        states, below = self.state.parse_conf.states, self.state.state_stack
        height = len(below) if depth is None else depth  # of the part that is as it was
        above: list[Any] = []  # what has been pushed on it: no copy, for the stack may be large
        top = below[height - 1]
        while kind in states[top]:
            action, argument = states[top][kind]
            if action is Shift:
                return True
            popped = len(argument.expansion)
            height -= max(popped - len(above), 0)
            del above[max(len(above) - popped, 0) :]
            above.append(states[above[-1] if above else below[height - 1]][argument.origin.name][1])
            top = above[-1]
            if top == self.state.parse_conf.end_state:
                return kind == "$END"
        return False

    def _feed(self, token: Token, following: Token) -> bool:
        """Shift the token, as a name where the grammar has no keyword in this place."""
        if not self._accepts(token.type):
            is_function = token == "affine" and following.type == "LPAR"
            is_field = token.type == "OUTPUT" and self.last is not None and self.last.type == "DOT"
            is_free = is_word(token) or is_field
            is_switch = token in SWITCHES and following.type == "EQUAL" and self._in_call()
            if not (self._accepts("NAME") and (is_function or is_free or is_switch)):
                return False
            token = Token.new_borrow_pos("NAME", str(token), token)
        self.state.feed_token(token)
        self.last = token
        return True

    def _in_call(self) -> bool:
        """Whether the innermost bracket is that of a call, inside of a norm."""
        kinds = [bracket.type for bracket in self.brackets]
        return "LBRACE" in kinds and kinds[-1] == "LPAR"

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
        if self.last is not None and self.last.type in STATEMENT_STARTS | SOFT_STARTS:
            self.quiet = False
            self.statement = self.last.type

    # ---- after an error

    def _recover(self, position: int) -> int:
        """Report the error at `position`; returns where to go on."""
        token, following = (
            self.tokens[position],
            self.tokens[min(position + 1, len(self.tokens) - 1)],
        )
        span = span_of(self.source, token)
        if token.type in NO_TOKENS:
            self._stray(token, span)
            return position + 1
        if token in RESERVED_WORDS and self._accepts("NAME") and not self._starts_line(token):
            self._report(ReservedWord(span, str(token), bool(self.brackets[1:])))
            self._feed(Token.new_borrow_pos("NAME", str(token) + "_", token), following)
            return position + 1
        starts = self._starts_line(token) or (self.last is not None and self.last.type == "LBRACE")
        if self._accepts("REDUCE") and is_word(token) and starts:
            known = tuple(STATEMENT_WORDS | SOFT_STATEMENT_WORDS)
            self._report(UnknownClause(span, str(token), known, following.type == "EQUAL"))
            return self._skip(position + 1)
        if token.type in CLOSERS and not self._is_open(token):
            self._closes_nothing(token, span)
            return position + 1
        if token.type == "USE" and self.brackets and self._norm_goes_on(position):
            self._report(self._unexpected(token))
            return position + 1 + (following.type == "STRING")
        if self._ends_statement(token) and self._put_in(position):
            return position
        if self.put_in_at[0] != position:  # else what is missing before it has been reported
            self._report(self._unexpected(token))
        if token.type == "LBRACE" and self.last is not None and self.last.type == "LBRACE":
            self.surplus += 1
            return position + 1
        return self._skip(position if token.type in SYNC else position + 1)

    def _stray(self, token: Token, span: Span) -> None:
        """A character or word that the language does not use, or brackets nested too deep."""
        if token.type == "DEEP":
            self._report(NestedTooDeep(span, MAX_DEPTH))
        elif token.type == "LONG":
            self._report_once(NameTooLong(span, str(token), MAX_NAME), str(token))
        else:
            first = next((i for i, c in enumerate(token) if not c.isascii()), 0)
            place = self.source.span(span.start + first, span.start + first + 1)
            self._report_once(UnexpectedCharacter(place, token[first]), str(token))
        if token.type != "UNKNOWN" and self._accepts("NAME"):
            self._feed_missing(token)
        self.quiet = self.quiet or not (token.type in ("FOREIGN", "LONG") or token.isspace())

    def _closes_nothing(self, token: Token, span: Span) -> None:
        """A closing bracket where another one was opened, or none."""
        opened = self.brackets[-1] if self.brackets else None
        closer = OPENERS[opened.type] if opened is not None else ""
        if opened is not None and closer != "RBRACE" and self._accepts(closer):
            self._report(MissingPiece(span, CLOSERS[closer], span_of(self.source, opened)))
            self.brackets.pop()
            self.state.feed_token(Token.new_borrow_pos(closer, str(token), token))
        else:
            self.surplus -= 1
            if self.surplus < 0:
                nothing = "there is no bracket that it closes"
                self._report(UnexpectedToken(span, f"`{token}`", (), nothing))

    def _is_open(self, closer: Token) -> bool:
        return any(OPENERS[bracket.type] == closer.type for bracket in self.brackets)

    def _starts_line(self, token: Token) -> bool:
        start = token.start_pos or 0
        return not self.source.text[self.source.text.rfind("\n", 0, start) + 1 : start].strip()

    def _ends_statement(self, token: Token) -> bool:
        """Whether what is being read must have ended before this token."""
        return token.type in SYNC | CLOSERS.keys() | {"LBRACE"} or self._starts_line(token)

    def _put_in(self, position: int) -> bool:
        """Feed the piece that is missing before `position`, if it is clear which one is.

        Of several pieces that are missing at one place, the first is reported.
        """
        times = self.put_in_at[1] + 1 if self.put_in_at[0] == position else 1
        if times > 2 * MAX_DEPTH or self.last is None:
            return False
        place = span_of(self.source, self.last).after()
        closer = OPENERS[self.brackets[-1].type] if self.brackets else ""
        nests = closer == "RBRACE" and self.tokens[position].type == "LBRACE"
        if self._accepts("NAME") and not self._accepts("REDUCE"):
            missing = MissingPiece(place, "an expression" if self._accepts("NUMBER") else "a name")
            self._feed_missing(self.last)
        elif self._accepts(closer) and not nests:
            opened = span_of(self.source, self.brackets.pop())
            missing = MissingPiece(place, CLOSERS[closer], opened)
            self.state.feed_token(Token.new_borrow_pos(closer, "", self.last))
        else:
            return False
        if times == 1:
            self._report(missing)
        self.put_in_at = (position, times)
        return True

    def _feed_missing(self, at: Token) -> None:
        """A name that stands for what is not there, or cannot be read."""
        if self.last is not None and self.last.type == "NORM":
            self.norm = MISSING
            self.result.broken.add(MISSING)
        self.last = Token.new_borrow_pos("NAME", MISSING, at)
        self.state.feed_token(self.last)

    def _unexpected(self, token: Token) -> Problem:
        span = span_of(self.source, token)
        found = "end of file" if token.type == "$END" else f"`{shortened(token)}`"
        behind = self.source.text[span.end : span.end + 1]
        statement = self.statement if self.norm is not None else ""
        expected = expected_tokens(token, self._accepts)
        help_line = foreign_form_hint(token, self._before(token), statement)
        help_line = help_line or hint(token, self.last, behind, statement, self._accepts)
        edit = fix(token, self.last, span, self._accepts)
        return UnexpectedToken(span, found, expected, help_line, edit)

    def _before(self, token: Token) -> list[Token]:
        """The tokens in front of one, at most to the beginning of its statement."""
        place = len(self.tokens) - 1
        if token.type != "$END":
            place = bisect_left(self.tokens, token.start_pos or 0, key=lambda t: t.start_pos or 0)
        found = self.tokens[max(place - MOST_BEFORE, 0) : place]
        starts = [i for i, t in enumerate(found) if t.type in STATEMENT_STARTS | SOFT_STARTS]
        return found[starts[-1] :] if starts else found

    def _skip(self, position: int) -> int:
        """Go on to the next statement, and drop what was understood of the broken one."""
        depth = 0
        while True:
            token = self.tokens[position]
            if token.type == "$END":
                self._unwind("$END", through_braces=True)
                return position
            if self._begins(position, depth) and self._unwind(token.type):
                return position
            if depth <= 0 and self._is_new_clause(position) and self._unwind("REDUCE"):
                self.quiet = False
                return position
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            position += 1

    def _norm_goes_on(self, position: int) -> bool:
        """Whether a statement of a norm, or its end, follows a `use` that stands inside."""
        behind = (self.tokens[min(position + i, len(self.tokens) - 1)] for i in (1, 2))
        after = next((token for token in behind if token.type != "STRING"), self.tokens[-1])
        return after.type not in ("NORM", "USE", "$END")

    def _begins(self, position: int, depth: int) -> bool:
        """Whether a statement or norm begins here, or the norm ends."""
        token = self.tokens[position]
        if token.type in ("NORM", "USE"):  # also parts of `'batch_norm.norm'`
            return self._starts_line(token)
        return token.type in SYNC

    def _is_new_clause(self, position: int) -> bool:
        """Whether a word begins a line here that does not go on with the line before."""
        token, before = self.tokens[position], self.tokens[position - 1]
        in_repeat = sum(bracket.type == "LBRACE" for bracket in self.brackets) > 1
        goes_on = before.type in GOES_ON or in_repeat
        return is_word(token) and self._starts_line(token) and not goes_on

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

    def _report_once(self, problem: Problem, what: str) -> None:
        """Report something that is told apart from the echo of another error."""
        line = self.source.position(problem.span.start).line
        key = f"quote in line {line}" if what in QUOTES else what
        if key not in self.foreign:
            quiet, self.quiet = self.quiet, False
            self._report(problem)
            self.quiet = quiet
        self.foreign.add(key)
