"""MN01xx: the text does not follow the grammar."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from metanorm.diagnostics.model import Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, listing, prose
from metanorm.source import Span


@problem("MN0101")
@dataclass(frozen=True)
class UnexpectedToken(Problem):
    """Something stands where the grammar does not allow it.

    ### What it means

    The parser understood the text up to here and cannot go on. The rest of the
    statement is skipped; statements after it are still read.

    ### Example

    ```norm
    norm Sum {
      input x[N, C]
      output x ** 2
    }
    ```

    ### Fix

    Look at what the message says may stand here. A power is written `x^2`, a
    comment begins with `#`, and values are compared with `<`, `<=`, `==`, `!=`, `>=` or `>`.
    """

    span: Span
    found: str
    expected: tuple[str, ...]
    hint: str = ""

    def message(self) -> str:
        return f"unexpected {self.found}"

    def label(self) -> str:
        if not self.expected or len(self.expected) > 6:
            return ""
        return "expected " + prose(self.expected, "or")

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()


@problem("MN0102")
@dataclass(frozen=True)
class MissingPiece(Problem):
    """Something is missing.

    ### What it means

    An expression, a name or a closing bracket was expected before the next
    thing began.

    ### Example

    ```norm
    norm Halves {
      input x[N, C]
      let   half =
      output x
    }
    ```

    ### Fix

    Write what is missing at the caret.
    """

    span: Span
    missing: str
    opened: Span | None = None

    def message(self) -> str:
        return f"expected {self.missing}"

    def label(self) -> str:
        return f"{self.missing} is missing here"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.opened, text="opened here"),) if self.opened else ()

    def helps(self) -> tuple[str, ...]:
        if self.opened:
            return (f"write {self.missing} where what was opened ends",)
        return (f"write {self.missing}, or remove what asks for one",)


@problem("MN0103")
@dataclass(frozen=True)
class UnknownClause(Problem):
    """A statement begins with a word that begins no statement.

    ### What it means

    Inside a norm every statement begins with one of `input`, `axis`, `reduce`,
    `shift`, `scale`, `stat`, `mix`, `track`, `affine`, `param`, `let`, `buffer`,
    `update`, `repeat` and `output`.

    ### Example

    ```norm
    norm LayerNorm {
      input  x[*B, *D = normalized_shape]
      reduse *D
    }
    ```

    ### Fix

    Correct the word. To give a value a name, write `let name = ...`.
    """

    span: Span
    word: str
    known: tuple[str, ...]
    assigns: bool = False

    def message(self) -> str:
        return f"unknown clause `{self.word}`"

    def label(self) -> str:
        return "no statement begins with this word"

    def helps(self) -> tuple[str, ...]:
        other = {"return": "output", "normalize": "reduce", "const": "let", "var": "let"}
        guess = did_you_mean(self.word, self.known)
        if self.word in other and not self.assigns:
            return (f"did you mean `{other[self.word]}`?",)
        if guess:
            return guess
        if self.assigns:
            return (f"to give a value a name, write `let {self.word} = ...`",)
        return (f"a statement begins with {listing(sorted(self.known), 'or')}",)


GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστφχψω",
        "alpha beta gamma delta eps zeta eta theta iota kappa lambda_ mu nu xi pi rho sigma tau "
        "phi chi psi omega".split(),
    )
)


@problem("MN0104")
@dataclass(frozen=True)
class UnexpectedCharacter(Problem):
    """A character that the language does not use.

    ### What it means

    Names are made of the letters `a` to `z`, digits and `_`; operators are
    `+ - * / ^` and comparisons; strings stand between `"` on one line and occur
    only after `use`.

    ### Example

    ```norm
    norm Squared {
      input x[N, C]
      output x² / 2
    }
    ```

    ### Fix

    Write Greek letters out (`sigma`), powers with `^`, and comments with `#`.
    """

    span: Span
    character: str

    def message(self) -> str:
        return f"unexpected character {describe(self.character)}"

    def helps(self) -> tuple[str, ...]:
        c = self.character
        hint = {
            "'": 'strings stand between `"`',
            "“": 'strings stand between `"`',
            '"': "a string ends on the line on which it begins",
            "√": "a root is written `sqrt(x)`",
            "∑": "a sum is written `sum(x over C)`",
            "@": "a contraction is written `sum(a * b over K)`",
            "²": "a power is written `x^2`",
            "·": "a product is written `a * b`",
            "×": "a product is written `a * b`",
            "−": "a minus is written `-`",
            "%": "there is no remainder; `interleave(g)` pools positions that are equal modulo `g`",
            "!": "a condition is turned round by comparing the other way",
            "&": "two conditions are joined by multiplying them",
            "|": "two conditions are joined with `max`",
            ";": "statements need no separator",
        }.get(c)
        if hint is None and (c.isspace() or not c.isprintable()):
            hint = "remove this character; only spaces, tabs and line ends stand between words"
        elif hint is None and c.isalnum():
            hint = "names are made of the letters a to z, digits and `_`"
            name = GREEK.get(c.lower())
            hint += f": write `{name}`" if name else ""
        return (hint or "remove it; a comment begins with `#`",)


@problem("MN0105")
@dataclass(frozen=True)
class ReservedWord(Problem):
    """A word of the language is used as a name.

    ### What it means

    The words that begin a statement (`input`, `track`, `mix`, `output`, ...) cannot
    name a value. `shift` and `scale` can.

    ### Example

    ```norm
    norm Mixed {
      input x[N, C]
      param mix = 1
      output mix * x
    }
    ```

    ### Fix

    Choose another name.
    """

    span: Span
    word: str
    in_call: bool = False

    def message(self) -> str:
        return f"`{self.word}` is a word of the language and cannot be a name"

    def helps(self) -> tuple[str, ...]:
        if self.word == "axis" and self.in_call:
            return ("the axes that are pooled stand behind `over`: `mean(x over C)`",)
        return (f"choose another name, for example `{self.word}_`",)


@problem("MN0106")
@dataclass(frozen=True)
class NestedTooDeep(Problem):
    """Brackets or operators are nested too deep.

    ### What it means

    No norm needs more than a few levels. The limit keeps a malicious file from
    using up the machine.

    ### Example

    ```norm
    norm Deep {
      input x[N]
      output ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((
             x
             ))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))
    }
    ```

    ### Fix

    Give parts of the expression a name with `let`.
    """

    span: Span
    limit: int

    def message(self) -> str:
        return f"nested more than {self.limit} levels deep"

    def helps(self) -> tuple[str, ...]:
        return ("give parts of the expression a name with `let`",)


@problem("MN0107")
@dataclass(frozen=True)
class BadNumber(Problem):
    """A number that cannot be used as it is written.

    ### What it means

    Numbers are 64-bit floating point. This one is too large, or has more digits
    than anything needs.

    ### Example

    ```norm
    norm Huge(eps = 1e999) {
      input x[N]
      output x / (abs(x) + eps)
    }
    ```

    ### Fix

    Write a number between 1e-300 and 1e300.
    """

    span: Span
    text: str
    reason: str

    def message(self) -> str:
        shown = self.text if len(self.text) <= 24 else self.text[:20] + "..."
        return f"the number `{shown}` {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return ("numbers lie between 1e-300 and 1e300; seventeen digits are all that count",)


@problem("MN0108")
@dataclass(frozen=True)
class GivenTwice(Problem):
    """A part of a statement is given more than once.

    ### What it means

    A pool has one `where`, one `weight` and one `track`, an option one value.

    ### Example

    ```norm
    norm Twice {
      input x[N, C], a: mask[N], b: mask[N]
      output x - mean(x over N where a, C where b)
    }
    ```

    ### Fix

    Keep one. Two conditions are joined by multiplying them: `where a * b`.
    """

    span: Span
    what: str

    def message(self) -> str:
        return f"`{self.what}` is given twice"

    def helps(self) -> tuple[str, ...]:
        if self.what == "where":
            return ("two conditions are joined by multiplying them: `where a * b`",)
        return ("keep one of them",)


@problem("MN0109")
@dataclass(frozen=True)
class MisplacedPart(Problem):
    """A part of an expression stands where it means nothing.

    ### What it means

    `name: value` belongs into `mode(train: ..., eval: ...)`, `name = value` after
    the plain arguments of a call, and `[A -> B]` stands alone in its brackets.

    ### Example

    ```norm
    norm Odd {
      input x[N, C]
      output clamp(min = 0, x)
    }
    ```

    ### Fix

    Move or remove it.
    """

    span: Span
    what: str
    hint: str = ""

    def message(self) -> str:
        return f"{self.what} cannot stand here"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()


def describe(character: str) -> str:
    """A character as a message names it: itself where it is printable, and its code point.

    The code point tells apart what looks alike.
    """
    point = f"U+{ord(character):04X}"
    if character.isascii() and character.isprintable():
        return f"`{character}`"
    if character.isalpha():
        point += f" {unicodedata.name(character, '')}".rstrip()
    return f"`{character}` ({point})" if character.isprintable() else point
