"""A drawing as data: shapes in pixels, y downwards, independent of file formats and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

Point = tuple[float, float]

# Every colour is legible on white and on black.
INK = "#6e7781"
NEUTRAL = "#9aa4af"
POOLED = "#2f81f7"
CHOSEN = "#f0883e"
OTHERS = ("#3fb68b", "#b083f0", "#d4a72c")  # pools beside that of the chosen element

MONO_WIDTH, SANS_WIDTH = 0.602, 0.56  # widths of a letter, in font sizes


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled outline; `opacity` is that of the fill."""

    points: tuple[Point, ...]
    fill: str
    opacity: float = 1.0
    stroke: str = ""
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Circle:
    """A filled circle."""

    x: float
    y: float
    radius: float
    fill: str
    opacity: float = 1.0
    stroke: str = ""
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    start: Point
    end: Point
    stroke: str
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Words:
    """Text on one line, its baseline at `y`."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    mono: bool = False
    fill: str = INK

    @property
    def length(self) -> float:
        """The approximate width in pixels, since the font is unknown."""
        return len(self.text) * self.size * (MONO_WIDTH if self.mono else SANS_WIDTH)


Shape = Union[Polygon, Circle, Line, Words]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture: its size, its shapes from back to front, and its text alternative."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str


def rectangle(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    opacity: float = 1.0,
    stroke: str = "",
) -> Polygon:
    """An upright rectangle."""
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Polygon(corners, fill, opacity, stroke)
