"""MN01xx: characters, words, numbers and brackets that the language does not take."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from metanorm.diagnostics.guess import SAFE, UNSAFE
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.source import Span

GREEK_NAMES = dict(
    zip(
        "αβγδεζηθικλμνξπρστφχψω",
        "alpha beta gamma delta eps zeta eta theta iota kappa lambda_ mu nu xi pi rho sigma tau "
        "phi chi psi omega".split(),
    )
)

# Characters that mean just one thing, and how it is written here.
REPLACEMENTS = {"²": "^2", "³": "^3", "·": "*", "×": "*", "÷": "/", "−": "-", ";": ""}


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

    ```norm
    norm Squared {
      input  x[N, C]
      output x^2 / 2
    }
    ```
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
            "@": "a product of matrices is a contraction, `sum(a * b over K)`; an axis that both "
            "sides keep is renamed in one: `w^T @ w` is `sum(w * w[C -> D] over O)`",
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
            name = GREEK_NAMES.get(c.lower())
            hint += f": write `{name}`" if name else ""
        return (hint or "remove it; a comment begins with `#`",)

    def fixes(self) -> tuple[Fix, ...]:
        c = self.character
        if c in REPLACEMENTS:
            written = REPLACEMENTS[c]
            title = f"write `{written}` instead of `{c}`" if written else f"remove `{c}`"
            return (Fix(self.span, written, SAFE, title),)
        if c.isspace():
            return (Fix(self.span, " ", SAFE, "write a space"),)
        if not c.isprintable():
            return (Fix(self.span, "", UNSAFE, f"remove {describe(c)}"),)
        if c.lower() in GREEK_NAMES:
            name = GREEK_NAMES[c.lower()]
            title = f"write `{name}` instead of `{c}`: it must not be the name of something else"
            return (Fix(self.span, name, UNSAFE, title),)
        return ()


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
      output x
    }
    ```

    ### Fix

    Choose another name.

    ```norm
    norm Mixed {
      input  x[N, C]
      param  share = 1
      output share * x
    }
    ```
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

    ```norm
    norm Flat {
      input  x[N]
      let    y = 2 * (x + 1)
      output 2 * (y + 1)
    }
    ```
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

    ```norm
    norm Small(eps = 1e-5) {
      input  x[N]
      output x / (abs(x) + eps)
    }
    ```
    """

    span: Span
    text: str
    reason: str

    def message(self) -> str:
        shown = self.text if len(self.text) <= 24 else self.text[:20] + "..."
        return f"the number `{shown}` {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return ("numbers lie between 1e-300 and 1e300; seventeen digits are all that count",)


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
