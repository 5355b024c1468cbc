"""Draws a norm: its pools side by side, each as a solid, with nodes and matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.program import Program
from metanorm.show.example import pool_numbers
from metanorm.show.matrices import matrices
from metanorm.show.nodes import graph_drawing, row_weights
from metanorm.show.pooled import no_pools_view, pool_views
from metanorm.show.shapes import (
    CHOSEN,
    INK,
    MONO_WIDTH,
    POOLED,
    SANS_WIDTH,
    Drawing,
    Line,
    Point,
    Polygon,
    Shape,
    Words,
    rectangle,
)
from metanorm.show.solids import DrawingPart, solid
from metanorm.show.view import PoolView

MARGIN = 18.0
GUTTER = 30.0
MIN_PANEL_WIDTH = 176.0
MAX_TEXT_WIDTH = 250.0  # of the text above a solid
MAX_PANELS_IN_ROW = 3  # pools in a row
SMALL, LARGE = 11.0, 17.0  # letters
LEADING = 5.0
INDENT = len("over ") * SMALL * MONO_WIDTH


def picture(program: Program) -> Drawing:
    """The picture of the pools of a norm. A norm without pools is drawn as such."""
    views = pool_views(program)
    panels = [_panel(pooled) for pooled in views] or [_panel_without_pools(no_pools_view(program))]
    body = _rows(panels)
    head = Words(MARGIN, MARGIN + LARGE - 3, program.name, LARGE, bold=True)
    legend = list(_legend(program, views))
    width = max(body.width, head.length, *(_right_edge(shape) for shape in legend)) + 2 * MARGIN
    top = MARGIN + LARGE + 16
    end = top + body.height
    shapes = [head, *translated(body.shapes, MARGIN, top), *translated(legend, MARGIN, end + 14)]
    height = end + (14 + max(_bottom_edge(shape) for shape in legend) if legend else 0) + MARGIN
    return Drawing(round(width), round(height), tuple(shapes), _title(program.name, views))


def translated(shapes: Sequence[Shape], x: float, y: float) -> Iterator[Shape]:
    """The same shapes, moved by (x, y)."""

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
    """A pool in words, as a solid, and as matrices, from top to bottom."""

    words: tuple[Words, ...]
    drawn: DrawingPart
    heat: DrawingPart

    @property
    def width(self) -> float:
        """The width of the widest part."""
        lengths = (line.x + line.length for line in self.words)
        return max(MIN_PANEL_WIDTH, self.drawn.width, self.heat.width, *lengths)

    @property
    def head(self) -> float:
        """The height of the words."""
        return sum(line.size + LEADING for line in self.words)


def _panel(pooled: PoolView) -> _Panel:
    lines = [_text_line(", ".join(pooled.statistics), 13, bold=True)]
    lines += _wrapped("over", pooled.over, mono=True)
    lines += (
        _wrapped("one for each", pooled.each) if pooled.each else [_text_line("one in all", SMALL)]
    )
    if pooled.left_out:
        lines.append(_text_line(f"drawn for one {', '.join(pooled.left_out)}", SMALL))
    lines += [
        _text_line(f"the first {e.length} of {e.label}", SMALL) for e in pooled.edges if e.cut
    ]
    return _Panel(tuple(lines), _elements_drawing(pooled), matrices(pooled.edges))


def _panel_without_pools(pooled: PoolView) -> _Panel:
    lines = (
        _text_line("nothing is pooled", 13, bold=True),
        _text_line("each element is mapped by itself", SMALL),
    )
    return _Panel(lines, _elements_drawing(pooled), matrices(pooled.edges))


def _text_line(text: str, size: float, bold: bool = False, mono: bool = False) -> Words:
    return Words(0, 0, text, size, bold=bold, mono=mono, fill=INK)


def _wrapped(lead: str, items: Sequence[str], mono: bool = False) -> list[Words]:
    """Items joined by commas, wrapped into lines."""
    max_letters = int(MAX_TEXT_WIDTH / (SMALL * (MONO_WIDTH if mono else SANS_WIDTH)))
    lines = [f"{lead} {items[0]}"]
    for item in items[1:]:
        comma = "" if item.startswith(("where", "weighted")) else ","
        if len(lines[-1]) + len(item) + 2 <= max_letters:
            lines[-1] += f"{comma} {item}"
        else:
            lines[-1] += comma
            lines.append(item)
    first, *rest = (_text_line(line, SMALL, mono=mono) for line in lines)
    return [first, *(replace(line, x=INDENT) for line in rest)]


def _elements_drawing(pooled: PoolView) -> DrawingPart:
    """The solid, with the nodes of its rows on the left."""
    elements = solid(pooled.edges, pooled.shares)
    if pooled.nodes is None:
        return elements
    counts = row_weights(pooled.shares)
    dots = graph_drawing(pooled.nodes, counts, pooled.edges[0].chosen)
    x = dots.width + 14
    height = max(dots.height, elements.height)
    shapes = (
        *translated(dots.shapes, 0, (height - dots.height) / 2),
        *translated(elements.shapes, x, (height - elements.height) / 2),
    )
    return DrawingPart(x + elements.width, height, shapes)


# ---- all of them


def _rows(panels: Sequence[_Panel]) -> DrawingPart:
    """The panels in a grid: rows of about equal length, columns of one width."""
    count = -(-len(panels) // MAX_PANELS_IN_ROW)
    across = -(-len(panels) // count)
    rows = [panels[first : first + across] for first in range(0, len(panels), across)]
    widths = [max(panel.width for panel in panels[rank::across]) for rank in range(across)]
    lefts = [sum(widths[:rank]) + rank * GUTTER for rank in range(across)]
    shapes: list[Shape] = []
    y = 0.0
    for row in rows:
        piece = _row(row, lefts)
        shapes += translated(piece.shapes, 0, y)
        y += piece.height + GUTTER
    return DrawingPart(lefts[-1] + widths[-1], y - GUTTER, tuple(shapes))


def _row(panels: Sequence[_Panel], lefts: Sequence[float]) -> DrawingPart:
    """A row of panels. The lower edges of solids are aligned, and the matrices below them."""
    head = max(panel.head for panel in panels) + 14
    floor = head + max(panel.drawn.height for panel in panels)
    shapes: list[Shape] = []
    for panel, x in zip(panels, lefts):
        y = 0.0
        for line in panel.words:
            y += line.size + LEADING
            shapes.append(replace(line, x=x + line.x, y=y))
        shapes += translated(panel.drawn.shapes, x, floor - panel.drawn.height)
        shapes += translated(panel.heat.shapes, x, floor + 16)
    height = floor + 16 + max(panel.heat.height for panel in panels)
    return DrawingPart(lefts[len(panels) - 1] + panels[-1].width, height, tuple(shapes))


def _legend(program: Program, views: Sequence[PoolView]) -> Iterator[Shape]:
    """The meaning of the colours, and the hyperparameters of the example."""
    if not views:
        return
    yield rectangle(0, 0, 10, 10, CHOSEN)
    first = Words(16, 9, "one element", SMALL)
    yield first
    x = 16 + first.length + 14
    yield rectangle(x, 0, 10, 10, POOLED)
    yield Words(x + 16, 9, "what is pooled with it", SMALL)
    notes = ["Row i of a matrix: what counts for position i."]
    if not all(pooled.counts_itself for pooled in views):
        notes.append("Pale orange: the element does not count itself.")
    if any(pooled.nodes is not None and len(set(pooled.nodes.pools)) > 1 for pooled in views):
        notes.append("Dots of other colours: nodes of other pools.")
    numbers = ", ".join(f"{name} = {value}" for name, value in pool_numbers(program).items())
    notes += [f"Drawn with {numbers}."] if numbers else []
    for rank, note in enumerate(notes):
        yield Words(0, 26 + 17 * rank, note, SMALL)


def _right_edge(shape: Shape) -> float:
    if isinstance(shape, Words):
        return shape.x + shape.length
    return max(x for x, _ in shape.points) if isinstance(shape, Polygon) else 0.0


def _bottom_edge(shape: Shape) -> float:
    return shape.y if isinstance(shape, Words) else 0.0


def _title(name: str, views: Sequence[PoolView]) -> str:
    if not views:
        return f"{name} pools nothing"
    each = [f"{', '.join(p.statistics)} over {', '.join(p.over)}" for p in views]
    return f"{name}: {'; '.join(each)}"
