"""A drawing as SVG: the same bytes for the same drawing, independent of fonts and libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby, pairwise

from metanorm.show.shapes import Circle, Drawing, Line, Point, Polygon, Shape, Words
from metanorm.visible import printable

FAMILIES = {
    False: "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif",
    True: "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
}


def svg_from_drawing(drawing: Drawing) -> str:
    """The text of an SVG file; polygons of one style that follow each other are one path."""
    width, height = _number(drawing.width), _number(drawing.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(printable(drawing.title))}</title>",
        "<style>",
        f"text {{ font-family: {FAMILIES[False]} }}",
        f".code {{ font-family: {FAMILIES[True]} }}",
        "</style>",
    ]
    for style, shapes in groupby(drawing.shapes, key=_style):
        lines += _elements(style, list(shapes))
    return "\n".join((*lines, "</svg>")) + "\n"


def _style(shape: Shape) -> str:
    """The style that polygons of one path share; empty for other shapes."""
    if not isinstance(shape, Polygon):
        return ""
    return _paint(shape)


def _paint(shape: Polygon | Circle) -> str:
    fill = f'fill="{shape.fill}"' if shape.fill else 'fill="none"'
    if shape.fill and shape.opacity != 1:
        fill += f' fill-opacity="{_number(shape.opacity)}"'
    if shape.stroke:
        fill += f' stroke="{shape.stroke}"'
        fill += f' stroke-width="{_number(shape.width)}"' if shape.width != 1 else ""
    return fill


def _elements(style: str, shapes: Sequence[Shape]) -> Iterator[str]:
    if style:
        path = "".join(_path_data(s.points) for s in shapes if isinstance(s, Polygon))
        yield f'<path {style} d="{path}"/>'
        return
    for shape in shapes:
        match shape:
            case Circle(x, y, radius):
                position = f'cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"'
                yield f"<circle {position} {_paint(shape)}/>"
            case Line(start, end, stroke, width):
                path = f"M{_pair(start)}L{_pair(end)}"
                yield f'<path d="{path}" stroke="{stroke}" stroke-width="{_number(width)}"/>'
            case Words():
                yield _text(shape)


def _text(words: Words) -> str:
    font = f'font-size="{_number(words.size)}" fill="{words.fill}"'
    font += f' text-anchor="{words.anchor}"' if words.anchor != "start" else ""
    font += ' font-weight="600"' if words.bold else ""
    font += ' class="code"' if words.mono else ""
    position = f'x="{_number(words.x)}" y="{_number(words.y)}"'
    return f"<text {position} {font}>{escape(printable(words.text), quote=False)}</text>"


def _path_data(points: Sequence[Point]) -> str:
    """A closed path: the first point, and the steps from each to the next."""
    steps = [
        (round(x - before[0], 2), round(y - before[1], 2)) for before, (x, y) in pairwise(points)
    ]
    return f"M{_pair(points[0])}{''.join(_path_step(x, y) for x, y in steps)}z"


def _path_step(x: float, y: float) -> str:
    if y == 0:
        return f"h{_number(x)}"
    return f"v{_number(y)}" if x == 0 else f"l{_pair((x, y))}"


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """A number with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
