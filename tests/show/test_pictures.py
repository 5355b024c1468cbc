"""Pictures as files: well formed, the same bytes each time, nothing outside, no text on text."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from conftest import PROGRAMS
from test_pooled import norm

from metanorm.show.picture import picture
from metanorm.show.shapes import (
    CHOSEN,
    NEUTRAL,
    OTHERS,
    POOLED,
    Circle,
    Drawing,
    Line,
    Polygon,
    Words,
    rectangle,
)
from metanorm.show.svg_from_drawing import svg_from_drawing

SVG = "{http://www.w3.org/2000/svg}"


def box(words: Words) -> tuple[float, float, float, float]:
    offset = {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor] * words.length
    left = words.x - offset
    return left, words.y - 0.8 * words.size, left + words.length, words.y + 0.2 * words.size


def apart(a: Words, b: Words) -> bool:
    first, second = box(a), box(b)
    return (
        first[2] <= second[0]
        or second[2] <= first[0]
        or first[3] <= second[1]
        or second[3] <= first[1]
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_picture_is_well_formed_and_tidy(name: str) -> None:
    drawing = picture(PROGRAMS[name])
    svg = svg_from_drawing(drawing)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root[0].text == drawing.title
    assert svg == svg_from_drawing(picture(PROGRAMS[name]))
    words = [shape for shape in drawing.shapes if isinstance(shape, Words)]
    assert [e.text for e in root.iter(f"{SVG}text")] == [w.text for w in words]
    for text in words:
        left, top, right, bottom = box(text)
        assert 0 <= left <= right <= drawing.width and 0 <= top <= bottom <= drawing.height, text
    for shape in drawing.shapes:
        if isinstance(shape, Polygon):
            assert all(
                0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in shape.points
            )
    for a, b in combinations(words, 2):
        assert apart(a, b), (a.text, b.text)


def test_a_norm_that_pools_nothing_says_so() -> None:
    drawing = picture(PROGRAMS["DynamicTanh"])
    assert drawing.title == "DynamicTanh pools nothing"
    assert "nothing is pooled" in [s.text for s in drawing.shapes if isinstance(s, Words)]


def test_masked_nodes_are_grey() -> None:
    """Of five nodes of the first graph every third is masked, from the second on."""
    drawing = picture(norm("x[V, C], batch: index[V], keep: mask[V]", "V: batch where keep"))
    dots = [shape for shape in drawing.shapes if isinstance(shape, Circle)]
    fills = [dot.fill for dot in dots]
    first = [POOLED, NEUTRAL, POOLED, POOLED, NEUTRAL]
    assert fills == [*first, *OTHERS[:1] * 3] and dots[0].stroke == CHOSEN


def test_text_is_escaped() -> None:
    words = (Words(0, 10, "a < b & c", 10),)
    assert "a &lt; b &amp; c</text>" in svg_from_drawing(Drawing(100, 20, words, "a < b"))


def test_shapes_as_svg() -> None:
    shapes = (
        rectangle(1, 2, 3, 4, "#aa0000"),
        rectangle(5, 2, 3.25, 4, "#aa0000"),
        Polygon(((0, 0), (2, 1), (1, 2)), "", 0, "#00aa00", 1.5),
        Circle(1, 2, 3, "#0000aa", 0.5),
        Line((0, 0), (1, 1), "#000000", 2),
    )
    lines = svg_from_drawing(Drawing(10, 10, shapes, "Shapes")).splitlines()[6:-1]
    assert lines == [
        '<path fill="#aa0000" d="M1 2h3v4h-3zM5 2h3.25v4h-3.25z"/>',
        '<path fill="none" stroke="#00aa00" stroke-width="1.5" d="M0 0l2 1l-1 1z"/>',
        '<circle cx="1" cy="2" r="3" fill="#0000aa" fill-opacity="0.5"/>',
        '<path d="M0 0L1 1" stroke="#000000" stroke-width="2"/>',
    ]


def test_png_has_the_colours_of_the_drawing() -> None:
    pytest.importorskip("matplotlib")
    import io

    from matplotlib.image import imread

    from metanorm.show.png_from_drawing import png_from_drawing

    shapes = (rectangle(0, 0, 10, 10, "#ff0000"), Words(12, 9, "x_1 $", 10))
    image = imread(io.BytesIO(png_from_drawing(Drawing(40, 20, shapes, "A square"))), "png")
    assert image.shape[:2] == (40, 80)
    assert image[10, 10].tolist() == [1, 0, 0, 1] and image[35, 10].tolist() == [1, 1, 1, 1]
    assert (image[:20, 24:] < 0.9).any()
