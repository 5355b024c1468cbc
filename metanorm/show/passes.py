"""Draws a program before and after a pass, side by side: what went, what came, what stayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.dump import op_text, type_text
from metanorm.ir.nodes import Let
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.show.shapes import (
    CHOSEN,
    INK,
    MONO_WIDTH,
    NEUTRAL,
    POOLED,
    Drawing,
    Line,
    Shape,
    Words,
    rectangle,
)

SIZE, ROW = 11.0, 18.0
MARGIN, GUTTER, BAR = 16.0, 72.0, 10.0
HEAD = 62.0
MOST_LETTERS = 96
NEW = "#3fb68b"


@dataclass(frozen=True)
class _Row:
    """A binding: its text, what it computes as a key, and whether it is as large as the data."""

    text: str
    key: str
    wide: bool


def pass_drawing(name: str, step: str, before: Program | None, after: Program) -> Drawing:
    """The bindings of a program before and after a step; without `before`, those after it alone.

    A bar beside a binding is blue where its value is as large as the input. Lines connect bindings
    that compute the same.
    """
    keys: dict[str, str] = {}
    right = _rows(after, keys)
    left = _rows(before, keys) if before is not None else []
    kept = {row.key for row in left} & {row.key for row in right}
    left_width, right_width = (
        max((len(row.text) for row in rows), default=0) * SIZE * MONO_WIDTH + BAR + 6
        for rows in (left, right)
    )
    start = MARGIN + left_width + GUTTER if left else MARGIN
    title = f"{name}, {step}" if before is None else f"{name}, before and after {step}"
    shapes: list[Shape] = [Words(MARGIN, MARGIN + 12, title, 15, bold=True)]
    shapes += _connections(left, right, kept, MARGIN + left_width + 4, start - 6)
    shapes += _column("before", left, kept, CHOSEN, MARGIN)
    shapes += _column("after" if left else "", right, kept if left else None, NEW, start)
    height = HEAD + ROW * max(len(left), len(right)) + MARGIN
    legend = "blue: as large as the input"
    if left:
        legend += " · orange: gone · green: new"
    shapes.append(Words(MARGIN, height, legend, SIZE))
    width = max(start + right_width, *(w.x + w.length for w in shapes if isinstance(w, Words)))
    return Drawing(round(width + MARGIN), round(height + MARGIN), tuple(shapes), title)


def _rows(program: Program, keys: dict[str, str]) -> list[_Row]:
    """The bindings. Those that compute the same in two programs have the same key."""
    first = program.inputs[0]
    space = program.index.space
    wide = {leaf for dim in first.dims for leaf in space.leaves(dim)}
    names: dict[str, str] = {}
    rows = []
    for let in program.body:
        formula = _formula(let, names)
        names[let.name] = keys.setdefault(formula, f"#{len(keys)}")
        text = f"{let.name} : {type_text(let.type)} = {op_text(let.op)}"
        if len(text) > MOST_LETTERS:
            text = text[: MOST_LETTERS - 3] + "..."
        rows.append(_Row(text, names[let.name], bool(wide) and wide <= set(let.type.axes)))
    return rows


def _formula(let: Let, names: Mapping[str, str]) -> str:
    """What a binding computes, with its operands by their keys."""
    known = {ref: names[ref] for ref in operands(let.op) if ref in names}
    return f"{type_text(let.type)} = {op_text(map_operands(let.op, known))}"


def _column(
    head: str, rows: Sequence[_Row], kept: set[str] | None, changed: str, x: float
) -> Iterator[Shape]:
    if head:
        yield Words(x, HEAD - 12, head, SIZE, bold=True)
    for rank, row in enumerate(rows):
        y = HEAD + rank * ROW
        if kept is not None and row.key not in kept:
            width = len(row.text) * SIZE * MONO_WIDTH + BAR + 10
            yield rectangle(x - 3, y - 1, width, ROW - 3, changed, 0.28)
        colour, opacity = (POOLED, 1.0) if row.wide else (NEUTRAL, 0.45)
        yield rectangle(x, y + 2, BAR - 4, ROW - 9, colour, opacity)
        yield Words(x + BAR + 2, y + ROW - 7, row.text, SIZE, mono=True, fill=INK)


def _connections(
    left: Sequence[_Row], right: Sequence[_Row], kept: set[str], start: float, end: float
) -> Iterator[Shape]:
    places = {row.key: rank for rank, row in enumerate(right)}
    for rank, row in enumerate(left):
        if row.key in kept:
            at = (start, HEAD + (rank + 0.4) * ROW)
            to = (end, HEAD + (places[row.key] + 0.4) * ROW)
            yield Line(at, to, POOLED if row.wide else NEUTRAL, 1.4 if row.wide else 0.7)
