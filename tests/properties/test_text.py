"""Text to tree and back: nothing is lost, nothing changes twice, nothing crashes."""

from __future__ import annotations

from conftest import LIBRARY
from hypothesis import example, given
from hypothesis import strategies as st
from random_specs import norms, untidy

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.render.text import render_text
from metanorm.frontend import check, format_spec
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.syntax.parse import parse
from metanorm.syntax.text_from_ast import text_from_ast

WORDS = """
norm input reduce output let param affine track stat mix over per where weight use axis buffer
update repeat shift scale blocks softmax mean var x N C * S [ ] ( ) { } , : = -> + - / ^ < <= 1 0.5
1e-5 "a.norm" # in by of for init off
""".split()


def parsed(text: str) -> ast.File:
    problems = Collector()
    file = parse(Source.of("x.norm", text), problems).file
    assert not problems.has_errors
    return file


def comments(text: str) -> list[str]:
    return sorted(line.partition("#")[2].strip() for line in text.split("\n") if "#" in line)


@given(norms())
def test_printing_and_parsing_are_inverse(text: str) -> None:
    file = parsed(text)
    assert parsed(text_from_ast(file)) == file


@given(norms().flatmap(lambda text: untidy(text)))
@example("norm A {\n  input x[N, C], m: matrix[C,  # a\nC]  # b\n  output x\n}\n")
def test_formatting_is_final_and_keeps_everything(text: str) -> None:
    once, problems = format_spec(Source.of("x.norm", text))
    assert problems == ()
    assert format_spec(Source.of("x.norm", once)) == (once, ())
    assert parsed(once) == parsed(text)
    assert comments(once) == comments(text)
    assert [n.notes for n in parsed(once).norms] == [n.notes for n in parsed(text).norms]


NOTED = """norm A(a: int, b = 1,  # of b
  # above c
  c = 2  # behind c
  # on its own
) {  # behind the brace
  input x[N, C], y[N],  # of y
        z[N]  # of z
  param w[C] = 1, v[C] = 0  # of both, so of neither
  param u[C] = 1  # of u
  buffer t = 0 update t = 1  # of a statement
  output w, v  # nothing
}
"""


def test_a_note_is_of_what_stands_before_it() -> None:
    (norm,) = parsed(NOTED).norms
    notes = {"b": "of b", "c": "above c behind c", "y": "of y", "z": "of z", "u": "of u"}
    assert norm.notes == notes
    assert norm.notes_on_outputs == ("", "")
    once, _ = format_spec(Source.of("x.norm", NOTED))
    assert parsed(once).norms[0].notes == notes
    assert comments(once) == comments(NOTED)


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
@example("norm")
@example("norm A {")
@example("}")
def test_any_words_end_in_diagnostics(text: str) -> None:
    source = Source.of("x.norm", text)
    checked = check({"x.norm": source}, ["x.norm"])
    for diagnostic in checked.diagnostics:
        assert 0 <= diagnostic.primary.span.start <= diagnostic.primary.span.end <= len(text)
    render_text(checked.diagnostics, {"x.norm": source})


@given(st.text(max_size=200))
def test_any_text_ends_in_diagnostics(text: str) -> None:
    source = Source.of("x.norm", text)
    render_text(check({"x.norm": source}, ["x.norm"]).diagnostics, {"x.norm": source})


LIBRARY_TEXTS = [source.text for source in LIBRARY.sources.values()]


@given(st.sampled_from(LIBRARY_TEXTS), st.data())
def test_a_damaged_spec_ends_in_diagnostics(text: str, data: st.DataObject) -> None:
    """One character of a good spec is taken out, doubled or replaced."""
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(("", text[place] * 2, "}", "(", "\0", "é", "*", "=")))
    source = Source.of("x.norm", text[:place] + other + text[place + 1 :])
    checked = check({"x.norm": source}, ["x.norm"])
    rendered = render_text(checked.diagnostics, {"x.norm": source})
    assert checked.ok or rendered
