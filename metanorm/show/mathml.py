r"""The LaTeX that `latex_from_ast` writes, as MathML, which browsers show without a library.

It knows the commands that are written there, and no others: `UnknownCommand` names one it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]|[^\s]")

GREEK = dict(
    zip(
        "alpha beta gamma delta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
        "varepsilon".split(),
        "αβγδηθκλμνξπρστφχψωε",
    )
)
OPERATORS: Mapping[str, str] = {
    "to": "→", "leftarrow": "←", "cdot": "⋅", "leq": "≤", "neq": "≠", "geq": "≥", "mid": "∣",
    "nabla": "∇",
    "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|", "{": "{", "}": "}",
}  # fmt: skip
FUNCTIONS = frozenset("exp log sin cos tanh max min".split())
SPACES = {",": "0.17em", "qquad": "2em", " ": "0.3em"}
ENVIRONMENTS = {"aligned": ("right left", ""), "cases": ("left left", "{")}


class UnknownCommand(ValueError):
    """A command that this module does not know."""


def mathml_from_latex(latex: str) -> str:
    """A displayed formula as a `<math>` element. Raises `UnknownCommand`."""
    parser = _Parser(TOKEN.findall(latex), latex)
    return f'<math display="block">{parser.row(())}</math>'


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens = tokens
        self.text = text
        self.position = 0
        # Positions of tokens in the text, for groups that are read as they are.
        self.starts = [match.start() for match in TOKEN.finditer(text)]
        self.commands: Mapping[str, Callable[[], str]] = {
            "\\frac": self._fraction,
            "\\sqrt": lambda: f"<msqrt>{self._group()}</msqrt>",
            "\\left": self._fenced,
            "\\mathit": lambda: f'<mi class="word">{self._raw()}</mi>',
            "\\mathrm": lambda: f'<mi mathvariant="normal">{self._raw()}</mi>',
            "\\text": lambda: f"<mtext>{self._raw()}</mtext>",
            "\\mathop": self._group,
            "\\begin": self._table,
        }

    def row(self, ends: tuple[str, ...]) -> str:
        """All up to one of the tokens in `ends`, which is not read."""
        parts = []
        while self.position < len(self.tokens) and self.tokens[self.position] not in ends:
            parts.append(self._scripted())
        return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"

    # ---- one item

    def _scripted(self) -> str:
        """An item with what stands below and above it."""
        first = self._peek()
        base = self._item()
        limits = first in ("\\mathop", "\\sum")
        if self._peek() == "\\limits":
            self._next()
        below = above = ""
        while self._peek() in ("_", "^"):
            if self._next() == "_":
                below = self._group()
            else:
                above = self._group()
        if below and above:
            return f"<msubsup>{base}{below}{above}</msubsup>"
        if below:
            tag = "munder" if limits else "msub"
            return f"<{tag}>{base}{below}</{tag}>"
        return f"<msup>{base}{above}</msup>" if above else base

    def _item(self) -> str:
        token = self._next()
        if token in self.commands:
            return self.commands[token]()
        if token == "{":
            inside = self.row(("}",))
            self._next()
            return inside
        if token.startswith("\\"):
            return self._symbol(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        return f"<mi>{token}</mi>" if token.isalpha() else f"<mo>{escape(token)}</mo>"

    def _symbol(self, name: str) -> str:
        if name in GREEK:
            return f"<mi>{GREEK[name]}</mi>"
        if name in FUNCTIONS:
            return f"<mi>{name}</mi>"
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"/>'
        if name == "sum":
            return '<mo movablelimits="false">∑</mo>'
        if name in OPERATORS:
            return f"<mo>{OPERATORS[name]}</mo>"
        raise UnknownCommand(f"\\{name} in {self.text}")

    # ---- commands

    def _fraction(self) -> str:
        above, below = self._group(), self._group()
        return f"<mfrac>{above}{below}</mfrac>"

    def _fenced(self) -> str:
        opening = self._delimiter()
        inside = self.row(("\\right",))
        self._next()
        return f"<mrow>{opening}{inside}{self._delimiter()}</mrow>"

    def _delimiter(self) -> str:
        token = self._next()
        text = OPERATORS.get(token[1:], token) if token.startswith("\\") else token
        return f'<mo fence="true">{escape(text)}</mo>'

    def _table(self) -> str:
        name = self._raw()
        if name not in ENVIRONMENTS:
            raise UnknownCommand(f"\\begin{{{name}}} in {self.text}")
        align, brace = ENVIRONMENTS[name]
        rows, cells = [], []
        while True:
            cells.append(f"<mtd>{self.row(('&', chr(92) * 2, chr(92) + 'end'))}</mtd>")
            end = self._next()
            if end != "&":
                rows.append(f"<mtr>{''.join(cells)}</mtr>")
                cells = []
            if end == "\\end":
                self._raw()
                break
        style = f'displaystyle="true" columnalign="{align}" class="{name}"'
        table = f"<mtable {style}>{''.join(rows)}</mtable>"
        fence = f'<mo fence="true">{brace}</mo>' if brace else ""
        return f"<mrow>{fence}{table}</mrow>" if fence else table

    # ---- tokens

    def _group(self) -> str:
        """What stands in braces, or the next item."""
        return self._item()

    def _raw(self) -> str:
        """The text in braces as it is written."""
        self._next()
        start = self.position
        while self._peek() != "}":
            self._next()
        begin = self.starts[start] if start < len(self.starts) else len(self.text)
        # Spaces before the first token belong to the text, too.
        opening = self.starts[start - 1] + 1
        text = self.text[min(begin, opening) : self.starts[self.position]]
        self._next()
        return escape(text.replace("\\_", "_"))

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _next(self) -> str:
        if self.position >= len(self.tokens):
            raise UnknownCommand(f"{self.text} ends too early")
        token = self.tokens[self.position]
        self.position += 1
        return token
