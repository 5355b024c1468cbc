"""Text to Lark tree. It reports every syntax error of the text, and never raises an exception.

The lexer makes words, and the state of the parser decides whether a word is a keyword or a name.
After an error, the parser inserts a missing piece, or drops the statement and goes on with the
next one.
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
    CONTINUATION_TOKENS,
    INVALID_TOKENS,
    MAX_DEPTH,
    MAX_NAME_LENGTH,
    OPENERS,
    SOFT_STARTS,
    STATEMENT_STARTS,
    SYNC_TOKENS,
    is_word,
    span_of,
    tokens_of,
)

MAX_ERRORS = 50
MAX_CONTEXT = 30  # tokens before an error that a help line depends on
MISSING = "<missing>"
CALL_SWITCHES = ("affine", "track")  # of a norm that is called: `BatchNorm(x, track = false)`
QUOTES = "'\"`‘’“”«»"


@dataclass
class ParsedText:
    """The tree and the comments of a text, and the norms with syntax errors, by name."""

    tree: Tree[Any] = field(default_factory=lambda: Tree("start", []))
    comments: list[Token] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


def tree_from_text(source: Source, problems: Collector) -> ParsedText:
    """Parse one file. With errors, the tree has what the parser understood."""
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
        self.statement = ""  # the token type of the word that begins the current statement
        self.last_token: Token | None = None
        self.is_quiet = False  # whether errors follow from a stray character, and are not reported
        self.error_count = 0
        self.inserted_at = (-1, 0)
        self.surplus_braces = 0  # of opening braces that were dropped
        self.reported_words: set[str] = set()  # stray words, which are reported once

    def run(self) -> None:
        position = 0
        while self.error_count < MAX_ERRORS:
            token = self.tokens[position]
            if token.type == "$END" and self._accepts("$END"):
                self.result.tree = self.state.feed_token(token, is_end=True)
                return
            following = self.tokens[min(position + 1, len(self.tokens) - 1)]
            if self._shift(token, following):
                self._track_state(token, following)
                position += 1
            else:
                position = self._recover(position)

    # ---- the parser's state

    def _accepts(self, kind: str, depth: int | None = None) -> bool:
        """Whether a token of this kind can follow, with `depth` states on the stack.

        This simulates all reductions up to the shift, because a state of a LALR table also lists
        tokens that only another context accepts.
        """
        states, stack = self.state.parse_conf.states, self.state.state_stack
        height = len(stack) if depth is None else depth  # of the part that is as it was
        pushed: list[Any] = []  # what has been pushed on it: no copy, for the stack may be large
        state_id = stack[height - 1]
        while kind in states[state_id]:
            action, argument = states[state_id][kind]
            if action is Shift:
                return True
            pop_count = len(argument.expansion)
            height -= max(pop_count - len(pushed), 0)
            del pushed[max(len(pushed) - pop_count, 0) :]
            pushed.append(
                states[pushed[-1] if pushed else stack[height - 1]][argument.origin.name][1]
            )
            state_id = pushed[-1]
            if state_id == self.state.parse_conf.end_state:
                return kind == "$END"
        return False

    def _shift(self, token: Token, following: Token) -> bool:
        """Shift a token, as a name if no keyword can follow; false if the grammar has neither."""
        if not self._accepts(token.type):
            is_function = token == "affine" and following.type == "LPAR"
            is_field = (
                token.type == "OUTPUT"
                and self.last_token is not None
                and self.last_token.type == "DOT"
            )
            is_free = is_word(token) or is_field
            is_switch = (
                token in CALL_SWITCHES and following.type == "EQUAL" and self._takes_switch()
            )
            is_switch |= (
                token == "affine" and self.last_token is not None and self.last_token.type == "IF"
            )
            if not (self._accepts("NAME") and (is_function or is_free or is_switch)):
                return False
            token = Token.new_borrow_pos("NAME", str(token), token)
        self.state.feed_token(token)
        self.last_token = token
        return True

    def _takes_switch(self) -> bool:
        """Whether `affine =` can be a switch of a norm: in a call in a norm, and in an example."""
        kinds = [bracket.type for bracket in self.brackets]
        return "LBRACE" in kinds and (kinds[-1] == "LPAR" or self.statement == "EXAMPLE")

    def _track_state(self, token: Token, following: Token) -> None:
        """Track the open brackets, the current norm and the current statement."""
        if token.type in OPENERS:
            self.brackets.append(token)
        elif token.type in CLOSERS and self.brackets:
            self.brackets.pop()
            if not self.brackets and token.type == "RBRACE":
                self.norm = None
        if token.type == "NORM":
            self.norm = str(following)
        if self.last_token is not None and self.last_token.type in STATEMENT_STARTS | SOFT_STARTS:
            self.is_quiet = False
            self.statement = self.last_token.type

    # ---- after an error

    def _recover(self, position: int) -> int:
        """Report the error at `position`; returns the position of the token to go on with."""
        token, following = (
            self.tokens[position],
            self.tokens[min(position + 1, len(self.tokens) - 1)],
        )
        span = span_of(self.source, token)
        if token.type in INVALID_TOKENS:
            self._report_stray(token, span)
            return position + 1
        if token in RESERVED_WORDS and self._accepts("NAME") and not self._starts_line(token):
            self._report(ReservedWord(span, str(token), bool(self.brackets[1:])))
            self._shift(Token.new_borrow_pos("NAME", str(token) + "_", token), following)
            return position + 1
        starts_statement = self._starts_line(token) or (
            self.last_token is not None and self.last_token.type == "LBRACE"
        )
        if self._accepts("REDUCE") and is_word(token) and starts_statement:
            statement_words = tuple(STATEMENT_WORDS | SOFT_STATEMENT_WORDS)
            self._report(
                UnknownClause(span, str(token), statement_words, following.type == "EQUAL")
            )
            return self._skip(position + 1)
        if token.type in CLOSERS and not self._is_open(token):
            self._recover_closer(token, span)
            return position + 1
        if token.type == "USE" and self.brackets and self._norm_goes_on(position):
            self._report(self._unexpected_token(token))
            return position + 1 + (following.type == "STRING")
        if token.type == "TRACK" and self._is_closed_behind(position):  # begins no statement here
            self._report(self._unexpected_token(token))
            return self._skip(position + 1)
        if self._ends_statement(token) and self._insert_missing(position):
            return position
        if self.inserted_at[0] != position:  # else what is missing before it has been reported
            self._report(self._unexpected_token(token))
        if (
            token.type == "LBRACE"
            and self.last_token is not None
            and self.last_token.type == "LBRACE"
        ):
            self.surplus_braces += 1
            return position + 1
        return self._skip(position if token.type in SYNC_TOKENS else position + 1)

    def _report_stray(self, token: Token, span: Span) -> None:
        """Report a character or word that the language lacks, or brackets nested too deep."""
        if token.type == "DEEP":
            self._report(NestedTooDeep(span, MAX_DEPTH))
        elif token.type == "LONG":
            self._report_once(NameTooLong(span, str(token), MAX_NAME_LENGTH), str(token))
        else:
            first = next((i for i, c in enumerate(token) if not c.isascii()), 0)
            character_span = self.source.span(span.start + first, span.start + first + 1)
            self._report_once(UnexpectedCharacter(character_span, token[first]), str(token))
        if token.type != "UNKNOWN" and self._accepts("NAME"):
            self._feed_missing(token)
        self.is_quiet = self.is_quiet or not (token.type in ("FOREIGN", "LONG") or token.isspace())

    def _recover_closer(self, token: Token, span: Span) -> None:
        """Report a closing bracket that closes nothing; it closes an open one of another kind."""
        opened = self.brackets[-1] if self.brackets else None
        closer = OPENERS[opened.type] if opened is not None else ""
        if opened is not None and closer != "RBRACE" and self._accepts(closer):
            self._report(MissingPiece(span, CLOSERS[closer], span_of(self.source, opened)))
            self.brackets.pop()
            self.state.feed_token(Token.new_borrow_pos(closer, str(token), token))
        else:
            self.surplus_braces -= 1
            if self.surplus_braces < 0:
                nothing = "there is no bracket that it closes"
                self._report(UnexpectedToken(span, f"`{token}`", (), nothing))

    def _is_open(self, closer: Token) -> bool:
        return any(OPENERS[bracket.type] == closer.type for bracket in self.brackets)

    def _starts_line(self, token: Token) -> bool:
        start = token.start_pos or 0
        return not self.source.text[self.source.text.rfind("\n", 0, start) + 1 : start].strip()

    def _ends_statement(self, token: Token) -> bool:
        """Whether the current statement cannot contain this token."""
        return token.type in SYNC_TOKENS | CLOSERS.keys() | {"LBRACE"} or self._starts_line(token)

    def _is_closed_behind(self, position: int) -> bool:
        """Whether the innermost bracket is a parenthesis that closes before the next statement."""
        if not self.brackets or self.brackets[-1].type != "LPAR":
            return False
        depth = 1
        for token in self.tokens[position + 1 :]:
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            if depth == 0 or token.type in SYNC_TOKENS:
                return token.type == "RPAR"
        return False

    def _insert_missing(self, position: int) -> bool:
        """Shift the piece that is missing before `position`; false if it could be several.

        If several pieces are missing at one place, only the first is reported.
        """
        count = self.inserted_at[1] + 1 if self.inserted_at[0] == position else 1
        if count > 2 * MAX_DEPTH or self.last_token is None:
            return False
        span = span_of(self.source, self.last_token).after()
        closer = OPENERS[self.brackets[-1].type] if self.brackets else ""
        nests = closer == "RBRACE" and self.tokens[position].type == "LBRACE"
        if self._accepts("NAME") and not self._accepts("REDUCE"):
            missing = MissingPiece(span, "an expression" if self._accepts("NUMBER") else "a name")
            self._feed_missing(self.last_token)
        elif self._accepts(closer) and not nests:
            opened = span_of(self.source, self.brackets.pop())
            missing = MissingPiece(span, CLOSERS[closer], opened)
            self.state.feed_token(Token.new_borrow_pos(closer, "", self.last_token))
        else:
            return False
        if count == 1:
            self._report(missing)
        self.inserted_at = (position, count)
        return True

    def _feed_missing(self, at: Token) -> None:
        """Shift a name in place of a missing or unreadable one."""
        if self.last_token is not None and self.last_token.type == "NORM":
            self.norm = MISSING
            self.result.broken.add(MISSING)
        self.last_token = Token.new_borrow_pos("NAME", MISSING, at)
        self.state.feed_token(self.last_token)

    def _unexpected_token(self, token: Token) -> Problem:
        span = span_of(self.source, token)
        actual = "end of file" if token.type == "$END" else f"`{shortened(token)}`"
        next_character = self.source.text[span.end : span.end + 1]
        statement = self.statement if self.norm is not None else ""
        expected = expected_tokens(token, self._accepts)
        help_line = foreign_form_hint(token, self._context_of(token), statement)
        help_line = help_line or hint(
            token, self.last_token, next_character, statement, self._accepts
        )
        edit = fix(token, self.last_token, span, self._accepts)
        return UnexpectedToken(span, actual, expected, help_line, edit)

    def _context_of(self, token: Token) -> list[Token]:
        """The tokens before one, from the beginning of its statement, at most `MAX_CONTEXT`."""
        position = len(self.tokens) - 1
        if token.type != "$END":
            position = bisect_left(
                self.tokens, token.start_pos or 0, key=lambda t: t.start_pos or 0
            )
        tokens = self.tokens[max(position - MAX_CONTEXT, 0) : position]
        starts = [i for i, t in enumerate(tokens) if t.type in STATEMENT_STARTS | SOFT_STARTS]
        return tokens[starts[-1] :] if starts else tokens

    def _skip(self, position: int) -> int:
        """Skip to the next statement, and drop the current one."""
        depth = 0
        while True:
            token = self.tokens[position]
            if token.type == "$END":
                self._unwind("$END", through_braces=True)
                return position
            if self._is_sync_point(position, depth) and self._unwind(token.type):
                return position
            if depth <= 0 and self._is_new_clause(position) and self._unwind("REDUCE"):
                self.is_quiet = False
                return position
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            position += 1

    def _norm_goes_on(self, position: int) -> bool:
        """Whether a norm goes on behind a `use` that stands in it."""
        following = (self.tokens[min(position + i, len(self.tokens) - 1)] for i in (1, 2))
        next_token = next((token for token in following if token.type != "STRING"), self.tokens[-1])
        return next_token.type not in ("NORM", "USE", "$END")

    def _is_sync_point(self, position: int, depth: int) -> bool:
        """Whether a statement or norm begins at a token, or the norm ends."""
        token = self.tokens[position]
        if token.type in ("NORM", "USE"):  # elsewhere, part of `'batch_norm.norm'`
            return self._starts_line(token)
        return token.type in SYNC_TOKENS

    def _is_new_clause(self, position: int) -> bool:
        """Whether a word begins a line that does not continue the line before."""
        token, before = self.tokens[position], self.tokens[position - 1]
        in_repeat = sum(bracket.type == "LBRACE" for bracket in self.brackets) > 1
        goes_on = before.type in CONTINUATION_TOKENS or in_repeat
        return is_word(token) and self._starts_line(token) and not goes_on

    def _unwind(self, kind: str, through_braces: bool = False) -> bool:
        """Pop states, but stay in the norm, until a token of this kind can follow."""
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
        self.error_count += 1
        if self.norm is not None:
            self.result.broken.add(self.norm)
        if not self.is_quiet:
            self.problems.add(problem)

    def _report_once(self, problem: Problem, what: str) -> None:
        """Report a stray word once, even after another error of the statement."""
        line = self.source.position(problem.span.start).line
        key = f"quote in line {line}" if what in QUOTES else what
        if key not in self.reported_words:
            quiet, self.is_quiet = self.is_quiet, False
            self._report(problem)
            self.is_quiet = quiet
        self.reported_words.add(key)
