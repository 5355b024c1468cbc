"""A document printer after Wadler and Lindig: text that knows where it may be broken.

Both the formatter of specs and the printers of generated code build documents;
only `render` decides about line ends. A group is printed on one line if it fits
(with what follows it up to the next possible line end), else all its own lines break.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True, slots=True)
class Line:
    """A place to break: `flat` where the group fits on a line. `hard` always breaks."""

    flat: str = " "
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Broken as a whole or not at all."""

    body: Doc


@dataclass(frozen=True, slots=True)
class Indent:
    """Lines inside begin further right."""

    body: Doc
    by: int


@dataclass(frozen=True, slots=True)
class IfBroken:
    """Text that stands only where the enclosing group is broken, such as a last comma."""

    text: str


Doc = Union[str, Line, Group, Indent, IfBroken, tuple["Doc", ...]]
_Item = tuple[int, bool, Doc]  # the indent, whether it is printed flat, and what

LINE = Line()
SOFT = Line("")


def join(separator: Doc, docs: Iterable[Doc]) -> Doc:
    """The documents with the separator between them."""
    joined: list[Doc] = []
    for index, doc in enumerate(docs):
        joined.extend((separator, doc) if index else (doc,))
    return tuple(joined)


def render(doc: Doc, width: int) -> str:
    """Lay the document out in `width` columns. Lines have no trailing blanks."""
    out: list[str] = []
    column = 0
    stack: list[_Item] = [(0, False, doc)]
    while stack:
        indent, flat, top = stack.pop()
        if isinstance(top, str):
            out.append(top)
            column += len(top)
        elif isinstance(top, tuple):
            stack.extend((indent, flat, part) for part in reversed(top))
        elif isinstance(top, Indent):
            stack.append((indent + top.by, flat, top.body))
        elif isinstance(top, IfBroken):
            if not flat:
                stack.append((indent, flat, top.text))
        elif isinstance(top, Group):
            fits = flat or _fits(width - column, (indent, True, top.body), stack)
            stack.append((indent, fits, top.body))
        elif flat and not top.hard:
            out.append(top.flat)
            column += len(top.flat)
        else:
            while out and out[-1].isspace() and not out[-1].endswith("\n"):
                out.pop()
            out.append("\n" + " " * indent)
            column = indent
    return "".join(out)


def one_line(doc: Doc) -> str:
    """The document on one line, whatever its width. A hard line is printed flat, too."""
    parts: list[str] = []
    stack: list[Doc] = [doc]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            parts.append(top)
        elif isinstance(top, tuple):
            stack.extend(reversed(top))
        elif isinstance(top, (Group, Indent)):
            stack.append(top.body)
        elif isinstance(top, Line):
            parts.append(top.flat)
    return "".join(parts)


def _fits(room: int, first: _Item, rest: Sequence[_Item]) -> bool:
    """Whether an item, and the text after it up to a line end, fit.

    `rest` has what follows, the next one last, and is not changed. It may be long, so it is not
    copied either.
    """
    stack, below = [first], len(rest)
    while room >= 0:
        if not stack:
            if not below:
                return True
            below -= 1
            stack.append(rest[below])
        indent, flat, top = stack.pop()
        if isinstance(top, str):
            room -= len(top)
        elif isinstance(top, tuple):
            stack.extend((indent, flat, part) for part in reversed(top))
        elif isinstance(top, (Indent, Group)):
            stack.append((indent, flat, top.body))
        elif isinstance(top, IfBroken):
            room -= 0 if flat else len(top.text)
        elif top.hard or not flat:
            return True
        else:
            room -= len(top.flat)
    return False
