"""A norm as a picture: side by side its pools, each as a solid, its nodes, and its matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.nodes import Program
from metanorm.show.example import sized_numbers
from metanorm.show.matrices import matrices
from metanorm.show.nodes import graph, row_counts
from metanorm.show.pooled import pools, untouched
from metanorm.show.shapes import (
    CHOSEN,
    INK,
    MONO,
    POOLED,
    SANS,
    Drawing,
    Line,
    Point,
    Polygon,
    Shape,
    Words,
    rectangle,
)
from metanorm.show.solids import Piece, solid
from metanorm.show.view import Pooled

MARGIN = 18.0
GUTTER = 30.0
NARROWEST = 176.0
WIDEST = 250.0  # of the text above a solid
ACROSS = 3  # pools in a row
SMALL, LARGE = 11.0, 17.0  # letters
LEADING = 5.0
INDENT = len("over ") * SMALL * MONO


def picture(program: Program) -> Drawing:
    """What a norm pools. A norm that pools nothing says so."""
    found = pools(program)
    panels = [_panel(pooled) for pooled in found] or [_nothing(untouched(program))]
    body = _rows(panels)
    head = Words(MARGIN, MARGIN + LARGE - 3, program.name, LARGE, bold=True)
    legend = list(_legend(program, found))
    width = max(body.width, head.length, *(_right(shape) for shape in legend)) + 2 * MARGIN
    top = MARGIN + LARGE + 16
    end = top + body.height
    shapes = [head, *moved(body.shapes, MARGIN, top), *moved(legend, MARGIN, end + 14)]
    height = end + (14 + max(_bottom(shape) for shape in legend) if legend else 0) + MARGIN
    return Drawing(round(width), round(height), tuple(shapes), _title(program.name, found))


def moved(shapes: Sequence[Shape], x: float, y: float) -> Iterator[Shape]:
    """The same shapes somewhere else."""

    def at(point: Point) -> Point:
        return (point[0] + x, point[1] + y)

    for shape in shapes:
        if isinstance(shape, Polygon):
            yield replace(shape, points=tuple(map(at, shape.points)))
        elif isinstance(shape, Line):
            yield replace(shape, start=at(shape.start), end=at(shape.end))
        else:
            new = at((shape.x, shape.y))
            yield replace(shape, x=new[0], y=new[1])


# ---- one pool


@dataclass(frozen=True)
class _Panel:
    """A pool in words, as a solid, and as matrices: one below the other."""

    words: tuple[Words, ...]
    drawn: Piece
    heat: Piece

    @property
    def width(self) -> float:
        """That of its widest part."""
        lengths = (line.x + line.length for line in self.words)
        return max(NARROWEST, self.drawn.width, self.heat.width, *lengths)

    @property
    def head(self) -> float:
        """The height of the words."""
        return sum(line.size + LEADING for line in self.words)


def _panel(pooled: Pooled) -> _Panel:
    lines = [_line(", ".join(pooled.statistics), 13, bold=True)]
    lines += _wrapped("over", pooled.over, mono=True)
    lines += _wrapped("one for each", pooled.each) if pooled.each else [_line("one in all", SMALL)]
    if pooled.left_out:
        lines.append(_line(f"drawn for one {', '.join(pooled.left_out)}", SMALL))
    lines += [_line(f"the first {e.length} of {e.label}", SMALL) for e in pooled.edges if e.cut]
    return _Panel(tuple(lines), _drawn(pooled), matrices(pooled.edges))


def _nothing(pooled: Pooled) -> _Panel:
    lines = (
        _line("nothing is pooled", 13, bold=True),
        _line("each element is mapped by itself", SMALL),
    )
    return _Panel(lines, _drawn(pooled), matrices(pooled.edges))


def _line(text: str, size: float, bold: bool = False, mono: bool = False) -> Words:
    return Words(0, 0, text, size, bold=bold, mono=mono, fill=INK)


def _wrapped(lead: str, items: Sequence[str], mono: bool = False) -> list[Words]:
    """Items joined by commas, on as many lines as they need."""
    most = int(WIDEST / (SMALL * (MONO if mono else SANS)))
    lines = [f"{lead} {items[0]}"]
    for item in items[1:]:
        comma = "" if item.startswith(("where", "weighted")) else ","
        if len(lines[-1]) + len(item) + 2 <= most:
            lines[-1] += f"{comma} {item}"
        else:
            lines[-1] += comma
            lines.append(item)
    first, *rest = (_line(line, SMALL, mono=mono) for line in lines)
    return [first, *(replace(line, x=INDENT) for line in rest)]


def _drawn(pooled: Pooled) -> Piece:
    """The solid, and at its left the nodes that its rows are."""
    elements = solid(pooled.edges, pooled.shares)
    if pooled.nodes is None:
        return elements
    counts = row_counts(pooled.shares)
    dots = graph(pooled.nodes, counts, pooled.edges[0].chosen)
    x = dots.width + 14
    height = max(dots.height, elements.height)
    shapes = (
        *moved(dots.shapes, 0, (height - dots.height) / 2),
        *moved(elements.shapes, x, (height - elements.height) / 2),
    )
    return Piece(x + elements.width, height, shapes)


# ---- all of them


def _rows(panels: Sequence[_Panel]) -> Piece:
    """Panels from left to right, in rows of about equal length and columns of one width."""
    count = -(-len(panels) // ACROSS)
    across = -(-len(panels) // count)
    rows = [panels[first : first + across] for first in range(0, len(panels), across)]
    widths = [max(panel.width for panel in panels[rank::across]) for rank in range(across)]
    lefts = [sum(widths[:rank]) + rank * GUTTER for rank in range(across)]
    shapes: list[Shape] = []
    y = 0.0
    for row in rows:
        piece = _row(row, lefts)
        shapes += moved(piece.shapes, 0, y)
        y += piece.height + GUTTER
    return Piece(lefts[-1] + widths[-1], y - GUTTER, tuple(shapes))


def _row(panels: Sequence[_Panel], lefts: Sequence[float]) -> Piece:
    """The lower ends of solids stand on one line, and so do the matrices below them."""
    head = max(panel.head for panel in panels) + 14
    floor = head + max(panel.drawn.height for panel in panels)
    shapes: list[Shape] = []
    for panel, x in zip(panels, lefts):
        y = 0.0
        for line in panel.words:
            y += line.size + LEADING
            shapes.append(replace(line, x=x + line.x, y=y))
        shapes += moved(panel.drawn.shapes, x, floor - panel.drawn.height)
        shapes += moved(panel.heat.shapes, x, floor + 16)
    height = floor + 16 + max(panel.heat.height for panel in panels)
    return Piece(lefts[len(panels) - 1] + panels[-1].width, height, tuple(shapes))


def _legend(program: Program, found: Sequence[Pooled]) -> Iterator[Shape]:
    """What the colours mean, and the numbers of the example."""
    if not found:
        return
    yield rectangle(0, 0, 10, 10, CHOSEN)
    first = Words(16, 9, "one element", SMALL)
    yield first
    x = 16 + first.length + 14
    yield rectangle(x, 0, 10, 10, POOLED)
    yield Words(x + 16, 9, "what is pooled with it", SMALL)
    notes = ["Row i of a matrix: what counts for position i."]
    if not all(pooled.counts_itself for pooled in found):
        notes.append("Pale orange: the element does not count itself.")
    if any(pooled.nodes is not None and len(set(pooled.nodes.pools)) > 1 for pooled in found):
        notes.append("Dots of other colours: nodes of other pools.")
    numbers = ", ".join(f"{name} = {value}" for name, value in sized_numbers(program).items())
    notes += [f"Drawn with {numbers}."] if numbers else []
    for rank, note in enumerate(notes):
        yield Words(0, 26 + 17 * rank, note, SMALL)


def _right(shape: Shape) -> float:
    if isinstance(shape, Words):
        return shape.x + shape.length
    return max(x for x, _ in shape.points) if isinstance(shape, Polygon) else 0.0


def _bottom(shape: Shape) -> float:
    return shape.y if isinstance(shape, Words) else 0.0


def _title(name: str, found: Sequence[Pooled]) -> str:
    if not found:
        return f"{name} pools nothing"
    each = [f"{', '.join(p.statistics)} over {', '.join(p.over)}" for p in found]
    return f"{name}: {'; '.join(each)}"
