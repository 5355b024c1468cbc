"""MN01xx: the text does not follow the grammar."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import SAFE, UNSAFE, nearest_name_fix, replacement_fix
from metanorm.diagnostics.model import Fix, Label, Problem
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

    ```norm
    norm Sum {
      input  x[N, C]
      output x^2
    }
    ```
    """

    span: Span
    actual: str
    expected: tuple[str, ...]
    hint: str = ""
    fix: Fix | None = None

    def message(self) -> str:
        return f"unexpected {self.actual}"

    def label(self) -> str:
        if not self.expected or len(self.expected) > 6:
            return ""
        return "expected " + prose(self.expected, "or")

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()

    def fixes(self) -> tuple[Fix, ...]:
        return (self.fix,) if self.fix is not None else ()


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

    ```norm
    norm Halves {
      input  x[N, C]
      let    half = x / 2
      output half
    }
    ```
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

    def fixes(self) -> tuple[Fix, ...]:
        if self.opened is None:  # then a name or an expression is missing, and who knows which
            return ()
        title = f"write {self.missing} here: it may belong further to the left"
        return (Fix(self.span, self.missing.strip("`"), UNSAFE, title),)


# Words of other languages that begin a statement, and whether they can mean nothing else.
OTHER_WORDS = {
    "return": ("output", SAFE),
    "const": ("let", SAFE),
    "normalize": ("reduce", UNSAFE),
    "var": ("let", UNSAFE),
}
# What to write for words that people expect to begin a statement.
CLAUSE_HINTS = {
    "after": "what a weight becomes after each step is a norm of its own: `norm Name for step`",
}


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

    ```norm
    norm LayerNorm {
      input  x[*B, *D = normalized_shape]
      reduce *D
    }
    ```
    """

    span: Span
    word: str
    candidates: tuple[str, ...]
    assigns: bool = False

    def message(self) -> str:
        return f"unknown clause `{self.word}`"

    def label(self) -> str:
        return "no statement begins with this word"

    def helps(self) -> tuple[str, ...]:
        guess = did_you_mean(self.word, self.candidates)
        if self.word in OTHER_WORDS and not self.assigns:
            return (f"did you mean `{OTHER_WORDS[self.word][0]}`?",)
        if self.word in CLAUSE_HINTS and not self.assigns:
            return (CLAUSE_HINTS[self.word],)
        if guess:
            return guess
        if self.assigns:
            return (f"to give a value a name, write `let {self.word} = ...`",)
        return (f"a statement begins with {listing(sorted(self.candidates), 'or')}",)

    def fixes(self) -> tuple[Fix, ...]:
        if self.word in OTHER_WORDS and not self.assigns:
            ours, applicability = OTHER_WORDS[self.word]
            return (replacement_fix(self.span, self.word, ours, applicability),)
        guess = nearest_name_fix(self.span, self.word, self.candidates)
        if guess or not self.assigns:
            return guess
        return (Fix(self.span.before(), "let ", UNSAFE, f"write `let {self.word} = ...`"),)


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

    ```norm
    norm Once {
      input  x[N, C], a: mask[N, C], b: mask[N, C]
      output x - mean(x over C where a * b)
    }
    ```
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

    ```norm
    norm Clamped {
      input  x[N, C]
      output clamp(x, min = 0)
    }
    ```
    """

    span: Span
    what: str
    hint: str = ""

    def message(self) -> str:
        return f"{self.what} cannot stand here"

    def helps(self) -> tuple[str, ...]:
        return (self.hint,) if self.hint else ()
