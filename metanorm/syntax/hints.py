"""Hints and fixes for a token that the grammar does not allow at its place."""

from __future__ import annotations

from collections.abc import Callable

from lark import Token

from metanorm.diagnostics.guess import SAFE, nearest_name_fix
from metanorm.diagnostics.model import Fix
from metanorm.diagnostics.suggest import did_you_mean, nearest
from metanorm.source import Span
from metanorm.syntax.grammar import STATEMENT_WORDS
from metanorm.syntax.tokens import CLOSERS

# Words of other languages, and what to write instead.
FOREIGN_WORDS = {
    "if": "a choice is written `where(condition, a, b)`",
    "and": "two conditions are joined by multiplying them",
    "or": "two conditions are joined with `max(a, b)`",
    "lambda": "a value is named with `let`, a function is a norm of its own",
    "for": "axes are pooled with `over`; a fixed number of steps is a `repeat`",
    "draw": "random numbers stand in the `train` side of a mode: `normal(0, 1 per N, C)`",
    "first": "it stands behind the value before the first batch: `param b[C] = 0 first e`",
}

POOL_PARTS = ("WHERE", "WEIGHT", "TRACK")  # token types of what follows the axes of a pool

# An example of each statement.
USAGE = {
    "USE": 'use "mine.norm"',
    "NORM": "norm Name(eps = 1e-5) { ... }",
    "INPUT": "input x[N, C, *S], context[M, C] = x",
    "AXIS": "axis C = (G = groups, D)",
    "REDUCE": "reduce C: blocks(groups), *S",
    "SHIFT": "shift mean_scale[C] = 1",
    "SCALE": "scale sqrt(var) + eps",
    "STAT": "stat layer over C, *S",
    "MIX": "mix inst, layer by softmax",
    "TRACK": "track momentum",
    "AFFINE": "affine C",
    "PARAM": "param gain[C] = 1, offset = 0",
    "LET": "let m = mean(x over C)",
    "BUFFER": "buffer seen[C] = 0",
    "UPDATE": "update seen = seen + 1",
    "REPEAT": "repeat steps { d = sqrt(d) }",
    "OUTPUT": "output x - m, m",
    "EXAMPLE": "example x = [[1, 3]] gives [[-1, 1]]",
    "ENTRY": "entry inverse(y[N, C]) { output y + mean }",
    "GRADIENT": "gradient x = grad * weight",
    "BACKWARD": "backward { gradient x = grad - drift * x }",
}

# Tokens in words. Operators are left out, since they may follow any expression.
TOKEN_NAMES = CLOSERS | {
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
    "PIPE": "`|`",
}


def expected_tokens(token: Token, accepts: Callable[[str], bool]) -> tuple[str, ...]:
    """The tokens that may stand in place of this one, in words."""
    expected = sorted(text for kind, text in TOKEN_NAMES.items() if accepts(kind))
    if accepts("REDUCE"):
        expected = [e for e in expected if e != "`}`"] + ["the next statement"]
    if accepts("PLUS"):
        expected = ["an operator"] + expected[-1:] * accepts("REDUCE")
    return () if token.type == "COMPARISON" else tuple(expected)


def hint(
    token: Token, last: Token | None, behind: str, statement: str, accepts: Callable[[str], bool]
) -> str:
    """A hint about what the author may have meant by a token that cannot follow `last`.

    `behind` is the character behind the token, `statement` the token type of the word that begins
    the statement, empty outside of norms.
    """
    before = last.type if last is not None else ""
    adjacent = last is not None and last.end_pos == token.start_pos
    if token.type == "STAR" and before == "STAR" and accepts("NUMBER"):
        return "a power is written `x^2`"
    if token.type == "SLASH" and behind in ("/", "*"):
        return "a comment begins with `#`"
    if token.type == "COMPARISON":
        return "two comparisons are joined by multiplying them: `(0 < x) * (x < 1)`"
    if before == "EQUAL" and statement == "AXIS" and not accepts("NUMBER"):
        return (
            "`axis C = (G = groups, D)` splits an axis, `axis C = (I = half) + B` cuts it; a new "
            "one gets its length where it is introduced: `param w[H = 8]`"
        )
    in_brackets = accepts("RSQB") or before in ("LSQB", "COMMA")
    if token.type == "COLON" and in_brackets and statement not in ("", "INPUT"):
        return (
            "some positions of an axis are a run with a name, `axis C = (I = 3) + B`, and then "
            "`x[I]`; one of them is `x[C = 0]`"
        )
    if token.type in ("NUMBER", "MINUS") and accepts("NAME"):
        return (
            "axes have names, which the `input` gives them: `x[N, C]`; a number behind them has "
            "one as well: `quantile(x over T, q = 0.1)`"
        )
    if token.type == "STAR" and accepts("NUMBER"):
        return "the number of positions of `*S` is written `size(*S)`"
    if token.type in POOL_PARTS and statement:
        part = token.lower()
        return f"`{part}` stands behind an axis, before options: `var(x over N {part} m, ddof = 1)`"
    if token.type == "EQUAL" and before == "EQUAL":
        return "values are compared with `==`, without a space"
    if token.type == "STRING":
        return (
            'a string stands after `use`, or is compared with a hyperparameter: `mode == "graph"`'
        )
    if before == "NUMBER" and adjacent and token.isidentifier() and token[0] not in "_eExX":
        return f"a product is written `{last} * {token}`"
    if before == "NUMBER" and adjacent:
        return "a number is written in decimal digits, such as `1000` or `1e-5`"
    if not statement:
        return "a file holds `use` lines and norms: `norm Name { ... }`"
    if token.type == "NORM":
        return "norms stand side by side, not inside each other"
    if token.type == "USE":
        return "`use` stands outside of norms, at the top of the file"
    if accepts("REDUCE") and nearest(str(token), STATEMENT_WORDS):
        return did_you_mean(str(token), STATEMENT_WORDS)[0]
    word = next((word for word in (str(token), str(last)) if word in FOREIGN_WORDS), "")
    return FOREIGN_WORDS[word] if word else f"it is written `{USAGE[statement]}`"


def fix(token: Token, last: Token | None, span: Span, accepts: Callable[[str], bool]) -> Fix | None:
    """The fix for a token with this span that cannot follow `last`; `None` without one."""
    adjacent = last is not None and last.end_pos == token.start_pos
    if token.type == "STAR" and last == "*" and adjacent and accepts("NUMBER"):
        both_stars = Span(span.source, span.start - 1, span.end)
        return Fix(both_stars, "^", SAFE, "write `^` instead of `**`")
    guesses = nearest_name_fix(span, str(token), STATEMENT_WORDS) if accepts("REDUCE") else ()
    return guesses[0] if guesses else None
