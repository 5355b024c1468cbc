"""A drawing as PNG, by matplotlib."""

from __future__ import annotations

from io import BytesIO

from matplotlib import patches
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from metanorm.show.shapes import Circle, Drawing, Line, Polygon, Words

SCALE = 2  # pixels of the image for each pixel of the drawing
POINTS = 72 / 100  # of type in a pixel of the drawing, at 100 pixels to the inch


def png_from_drawing(drawing: Drawing) -> bytes:
    """The bytes of a PNG file, on white, with `SCALE` pixels for each pixel of the drawing."""
    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=100 * SCALE)
    FigureCanvasAgg(figure)  # draws into memory: there may be no screen
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for order, shape in enumerate(drawing.shapes):
        match shape:
            case Polygon(points):
                axes.add_patch(patches.Polygon(points, closed=True, **_paint(shape), zorder=order))
            case Circle(x, y, radius):
                axes.add_patch(patches.Circle((x, y), radius, **_paint(shape), zorder=order))
            case Line(start, end, stroke, width):
                coordinates = list(zip(start, end))
                axes.plot(*coordinates, color=stroke, linewidth=width * POINTS, zorder=order)
            case Words(x, y, text, size):
                family = "monospace" if shape.mono else "sans-serif"
                axes.text(
                    x,
                    y,
                    text,
                    fontsize=size * POINTS,
                    family=family,
                    weight="bold" if shape.bold else "normal",
                    color=shape.fill,
                    ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
                    va="baseline",
                    parse_math=False,
                    zorder=order,
                )
    out = BytesIO()
    figure.savefig(out, format="png", dpi=100 * SCALE, metadata={"Software": None})
    return out.getvalue()


def _paint(shape: Polygon | Circle) -> dict[str, object]:
    return {
        "facecolor": to_rgba(shape.fill, shape.opacity) if shape.fill else "none",
        "edgecolor": shape.stroke or "none",
        "linewidth": shape.width * POINTS if shape.stroke else 0,
    }
