"""What the language server answers, without the protocol."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT

from metanorm import frontend
from metanorm.diagnostics.model import Severity
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.frontend import LIBRARY
from metanorm.ir.fingerprint import fingerprint
from metanorm.lsp import actions, display, hover, names
from metanorm.lsp.completion import completion
from metanorm.lsp.project import Project, View
from metanorm.semantics.symbols import WORDS, Occurrence, Role, Symbol
from metanorm.source import Source, Span, apply_edits
from metanorm.syntax import words
from metanorm.syntax.grammar import (
    CLAUSE_WORDS,
    FILE_WORDS,
    RESERVED_WORDS,
    SOFT_STATEMENT_WORDS,
    STATEMENT_WORDS,
    parser,
)
from metanorm.workspace import load

GOOD = sorted([*(ROOT / "specs").glob("*.norm"), *(ROOT / "tests" / "good").glob("*/*.norm")])
BAD = sorted((ROOT / "tests" / "bad").glob("*.norm"))
SPECS = [path for path in GOOD if path.parent.name == "specs"]


def ids(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def opened(path: Path) -> tuple[Project, View]:
    project = Project()
    return project, project.view(path.as_posix())


def of(text: str, **others: str) -> tuple[Project, View]:
    """A document and others beside it; `a__norm` is `a.norm`."""
    project = Project()
    for name, other in {**others, "x__norm": text}.items():
        project.set_document(f"/nowhere/{name.replace('__', '.')}", other)
    return project, project.view("/nowhere/x.norm")


def cut(marked: str) -> tuple[str, int]:
    """A text and the place of the `|` in it."""
    return marked.replace("|", ""), marked.index("|")


# ---- names


@pytest.mark.parametrize("path", [*GOOD, *BAD], ids=ids)
def test_every_name_is_known_for_what_it_is(path: Path) -> None:
    """All that the lexer calls a name is an occurrence, or a word of the language."""
    _, view = opened(path)
    if view.findings.workspace.diagnostics or not view.findings.checked.ok:
        assert len({o.span for o in view.occurrences}) == len(view.occurrences)
        return
    spans = {o.span for o in view.occurrences}
    soft = words.SOFT.keys() | RESERVED_WORDS | SOFT_STATEMENT_WORDS
    for token in parser().lex(view.source.text, dont_ignore=True):
        span = view.source.span(token.start_pos or 0, token.end_pos or 0)
        if token.type == "NAME" and span not in spans:
            assert token in soft, f"{token} at {view.source.position(span.start)}"
    for o in view.occurrences:
        assert view.source.text[o.span.start : o.span.end] == o.symbol.name
        assert o.symbol.role is not Role.UNKNOWN or o.symbol.name in implied(view, o.norm)


def implied(view: View, norm: str) -> set[str]:
    return {"eps", *view.values(norm), *view.buffers(norm)}


def introduced_symbols(view: View) -> list[Symbol]:
    """The symbols that a text introduces, but for `eps`, which clauses find by its name."""
    symbols = dict.fromkeys(o.symbol for o in view.occurrences if o.introduces)
    return [s for s in symbols if (s.role, s.name) != (Role.HYPER, "eps")]


def meaning(view: View) -> list[str]:
    assert view.findings.checked.ok
    return [fingerprint(norm.program) for norm in view.checked]


def renamed(view: View, symbols: dict[Symbol, str]) -> View:
    edits = [(o.span, symbols[o.symbol]) for o in view.occurrences if o.symbol in symbols]
    text = apply_edits(view.findings.workspace.texts[view.name], edits)
    project = Project()
    project.set_document(view.name, text)
    return project.view(view.name)


@pytest.mark.parametrize("path", GOOD, ids=ids)
def test_with_all_names_renamed_a_spec_means_the_same(path: Path) -> None:
    _, view = opened(path)
    new = {
        s: f"{'Q' if s.role in (Role.NORM, Role.AXIS) else 'q'}{i}q"
        for i, s in enumerate(introduced_symbols(view))
    }
    assert new
    assert meaning(renamed(view, new)) == meaning(view)


@pytest.mark.extended
@pytest.mark.parametrize("path", GOOD, ids=ids)
def test_with_any_name_renamed_a_spec_means_the_same(path: Path) -> None:
    project, view = opened(path)
    for o in view.occurrences:
        if o.introduces and o.symbol in introduced_symbols(view):
            spans_by_source = names.rename(project, view, o.span.start, "q7q")
            edits = [(span, "q7q") for span in spans_by_source[view.name]]
            text = apply_edits(view.findings.workspace.texts[view.name], edits)
            after = Project()
            after.set_document(view.name, text)
            assert meaning(after.view(view.name)) == meaning(view)


TWO_OUTPUTS = (
    "norm Inner {\n  input  x[N, C], r[N, C]\n  param  gain[C = dim] = 1\n"
    "  output gain * x, sum_ = x + r\n}\n"
)
CALLS_TWICE = (
    'use "inner.norm"\n\nnorm Outer {\n  input  x[T, D], r[T, D]\n'
    "  let    a = Inner(x, r, N = T, C = D)\n  output a, b = a(r, x), c = a.sum_\n}\n"
)


def test_axes_and_outputs_of_a_norm_are_renamed_where_it_is_called() -> None:
    project, view = of(CALLS_TWICE, inner__norm=TWO_OUTPUTS)
    assert view.findings.checked.ok, view.findings.diagnostics
    inner = project.view("/nowhere/inner.norm")
    for name, marked, count in (("C =", CALLS_TWICE, 4), ("sum_", CALLS_TWICE, 2)):
        spans_by_source = names.rename(project, view, marked.index(name), "q7q")
        assert sum(map(len, spans_by_source.values())) == count and len(spans_by_source) == 2
        assert (
            names.rename(project, inner, TWO_OUTPUTS.index(name.strip(" =")), "q7q")
            == spans_by_source
        )
    (first, *_) = names.rename(project, view, CALLS_TWICE.index("a = "), "q7q").values()
    assert len(first) == 4


@pytest.mark.parametrize("path", SPECS, ids=ids)
def test_every_name_leads_to_where_it_is_introduced(path: Path) -> None:
    project, view = opened(path)
    for o in view.occurrences:
        definitions = names.definition(project, view, o.span.start)
        if o.symbol.role in WORDS or (o.symbol.role is Role.UNKNOWN and o.symbol.name == "eps"):
            assert definitions == []
        elif o.symbol.role is Role.UNKNOWN:
            (span,) = definitions
            assert view.source.text[span.start : span.end] in ("reduce", "mix", "affine", "track")
        elif o.symbol.name not in ("affine", "track"):  # switches of a norm that is called
            (span,) = definitions
            source = project.view(span.source).source
            assert source.text[span.start : span.end] == o.symbol.name


BATCH = "norm Inner(power = 2) {\n  input  x[N, C]\n  output x^power\n}\n"
USER = (
    'use "inner.norm"\n\nnorm Outer {\n  input  x[N, C]\n  param  power = 1\n'
    "  output Inner(power * x, power = 3)\n}\n"
)


def test_names_of_other_files_are_renamed_in_all() -> None:
    project, view = of(USER, inner__norm=BATCH)
    inner = project.view("/nowhere/inner.norm")
    power = view.source.text.index("power = 3")
    for asked, offset in ((view, power), (inner, BATCH.index("power"))):
        spans_by_source = names.rename(project, asked, offset, "exponent")
        assert {name: len(spans) for name, spans in spans_by_source.items()} == {
            "/nowhere/inner.norm": 2,
            "/nowhere/x.norm": 1,
        }
    spans_by_source = names.rename(project, inner, BATCH.index("Inner"), "Power")
    assert sorted(spans_by_source) == ["/nowhere/inner.norm", "/nowhere/x.norm"]
    spans_by_source = names.rename(project, view, USER.index("power"), "gain")  # the parameter
    assert {name: len(spans) for name, spans in spans_by_source.items()} == {"/nowhere/x.norm": 2}


USED_BY_NONE = "norm None_ {\n  input  x[N]\n  reduce N\n}\n"
LIBRARY_USER = (
    'use "batch_norm.norm"\n\nnorm Twice {\n  input  x[N, C]\n  output 2 * BatchNorm(x)\n}\n'
)


@pytest.mark.parametrize(
    ("marked", "new", "why"),
    [
        ("norm A(|eps = 1) {\n  input  x[N]\n  reduce N\n}\n", "tiny", "a norm would change"),
        (
            "norm A {\n  input  x[N]\n  reduce N\n  output |normalized\n}\n",
            "y",
            "a clause introduces",
        ),
        ("norm A {\n  input  x[N]\n  let    |s = 2\n  reduce N\n  scale  s\n}\n", "std", "would"),
        ("norm A {\n  input  |x[N]\n  let    s = 2\n  output x * s\n}\n", "s", "is a name already"),
        ("norm A {\n  input  |x[N]\n  reduce N\n}\n", "mean", "is a name already"),
        ("norm A {\n  input  |x[N]\n  reduce N\n}\n", "let", "cannot be a name"),
        ("norm A {\n  input  |x[N]\n  reduce N\n}\n", "a b", "cannot be a name"),
        ("norm A {\n  input  |x[N]\n  reduce N\n}\n", "lambda", "a word of Python"),
        ("norm A {\n  input  x[N]\n  output |sqrt(x)\n}\n", "root", "a word of the language"),
        ("norm A {\n  input  x[N] |\n  reduce N\n}\n", "root", "no name here"),
        (LIBRARY_USER.replace("2 * B", "2 * |B"), "B", "library"),
        (
            "norm A for loss {\n  input  x[N], |y[N]\n  output sum(x over N), y = 2\n}\n",
            "z",
            "",
        ),
    ],
)
def test_a_new_name_never_changes_what_is_computed(marked: str, new: str, why: str) -> None:
    text, offset = cut(marked)
    project, view = of(text)
    if not why:
        assert names.rename(project, view, offset, new)
        return
    with pytest.raises(names.CannotRename, match=re.escape(why)):
        names.rename(project, view, offset, new)


def test_while_a_spec_has_mistakes_its_names_are_known() -> None:
    text, offset = cut(
        "norm A {\n  input  x[N, C]\n  let    |m = mean(x over C)\n  output x - m *\n}\n"
    )
    project, view = of(text)
    assert not view.findings.checked.ok
    assert len(names.rename(project, view, offset, "centre")["/nowhere/x.norm"]) == 2
    project, view = of(text.replace(" *\n", " * y\n"))
    assert "m[N]" in str(hover.hover(project, view, offset))


def test_a_use_leads_to_its_file() -> None:
    project, view = of(LIBRARY_USER)
    (span,) = names.definition(project, view, 8)
    assert span.source == f"{LIBRARY}batch_norm.norm"
    assert Path(names.path_of_source(span.source)).is_file()
    (span,) = names.definition(project, view, LIBRARY_USER.index("BatchNorm"))
    assert span.source == f"{LIBRARY}batch_norm.norm"


def test_a_change_outdates_what_depends_on_it_alone() -> None:
    project, view = of(LIBRARY_USER, other__norm=USED_BY_NONE)
    other = project.view("/nowhere/other.norm")
    project.set_document(view.name, LIBRARY_USER.replace("2", "3"))
    assert project.view(other.name) is other
    assert project.view(view.name) is not view
    view = project.view(view.name)
    assert view.findings.checked.ok
    project.set_document(
        "/nowhere/batch_norm.norm", USED_BY_NONE
    )  # which comes before the library's
    assert not project.view(view.name).findings.checked.ok
    project.close_document("/nowhere/batch_norm.norm")
    assert project.view(view.name).findings.checked.ok


def test_open_documents_shadow_files(tmp_path: Path) -> None:
    (tmp_path / "inner.norm").write_text(BATCH)
    (tmp_path / "x.norm").write_text(USER)
    project = Project()
    name = (tmp_path / "x.norm").as_posix()
    inner = (tmp_path / "inner.norm").as_posix()
    assert project.view(name).findings.checked.ok
    project.set_document(inner, BATCH.replace("power", "exponent"))
    assert [d.code for d in project.view(name).findings.diagnostics] == ["MN0503"]
    project.set_document(inner, "")
    assert not project.view(name).findings.checked.ok
    project.close_document(inner)
    assert project.view(name).findings.checked.ok


# ---- completion


@pytest.mark.parametrize("path", SPECS, ids=ids)
def test_what_stands_there_is_offered_there(path: Path) -> None:
    _, view = opened(path)
    for o in view.occurrences:
        if not o.introduces:
            offered = {i.text.rstrip(" =:") for i in completion(view, o.span.start)}
            name = o.symbol.name
            where = view.source.position(o.span.start)
            assert {name, f"*{name}"} & offered, f"{name} at {where.line}:{where.column}"


NORM = "norm A(g: int, eps = 1e-5) {{\n  input  x[N, C, *S], batch: index[N]\n  {}\n}}\n"


@pytest.mark.parametrize(
    ("statement", "expected", "unexpected"),
    [
        ("red|", "reduce let input", "mean x C"),
        ("reduce |", "N C *S", "x mean reduce"),
        ("reduce *|", "S", "x"),
        ("reduce C: |", "blocks window", "N mean eps"),
        ("reduce N: |", "batch", "x eps"),
        ("reduce C |", "where weight", "x mean"),
        ("let m = mean(x over |)", "N C *S", "x sqrt"),
        ("let m = mean(x |)", "over", "C sqrt"),
        ("let m = var(x over C, |)", "ddof = |N", "x"),
        ("let m = |", "x mean sqrt eps", "C reduce"),
        ("let m = x - |", "x mean", "C reduce"),
        ("let m = size(|)", "C *S", "x"),
        ("let m = moments(x over C).|", "mean var", "x"),
        ("scale |", "std none l1 max eps", "C"),
        ("shift |", "mean none x", "C"),
        ("affine |", "C N", "x"),
        ("param p[|", "C N", "mean"),
        ("output y like |", "x", "eps C"),
        ("output x as |", "float32", "x C"),
        ("stat a over |", "C", "x"),
        ("# any |", "", "x C let"),
        ("reduce C  # norm: allow |", "MN0702", "x"),
        ("example |", "x batch eps g", "N reduce"),
        ("example x = [[1, |]] gives", "nan", "x"),
        ("example scale = 2, x = [[1]] |", "in gives", "x"),
        ("example x = [[1]] in |", "train eval", "x gives"),
        ("entry back(y[N, |", "C", "x"),
        ("entry back(y: |", "index mask", "x"),
        ("entry back(y[N]) {{ output |", "x sqrt", "reduce"),
        ("output Other(|)", "x|strength = |affine = ", "C"),
    ],
)
def test_completion_in_a_statement(statement: str, expected: str, unexpected: str) -> None:
    other = "norm Other(strength = 1) {\n  input  x[N]\n  output strength * x\n}\n"
    text, offset = cut(NORM.format(statement) + other)
    offered = {item.text for item in completion(of(text)[1], offset)}
    split = "|" if "|" in expected else " "
    assert set(filter(None, expected.split(split))) <= offered
    assert not set(unexpected.split()) & offered


@pytest.mark.parametrize(
    ("marked", "expected", "unexpected"),
    [
        ("|", "norm use", "let"),
        ("norm A for |", "weight loss gradient", "x"),
        ("norm A(g: |)", "int float bool matrix", "x"),
        ('use "|"', "batch_norm.norm", "let"),
        ("norm A {\n  input  x[N], y: |", "index mask edges", "x"),
        ("norm A {\n  input  x[N]\n  |", "reduce let", "norm use"),
    ],
)
def test_completion_elsewhere(marked: str, expected: str, unexpected: str) -> None:
    text, offset = cut(marked)
    offered = {item.text for item in completion(of(text)[1], offset)}
    assert set(expected.split()) <= offered
    assert not set(unexpected.split()) & offered


# ---- hover, hints, colours, outline


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("norm A {\n  input  x[|N, C]\n  reduce N\n}\n", ["axis `N`", "any length"]),
        ("norm A {\n  input  x[N, *|S]\n  reduce *S\n}\n", ["`*S`: any number"]),
        ("norm A {\n  input  x[N, C]\n  let    |m = mean(x over C)\n  output x - m\n}\n", ["m[N]"]),
        (
            "norm A {\n  input  x[N, C]\n  output x - |mean(x over C)\n}\n",
            ["mean(x over P)", "[N]"],
        ),
        (
            "# What it is.\nnorm |A {\n  input  x[N, C]\n  reduce C\n}\n",
            ["sqrt(var + eps)", "What it"],
        ),
        ("norm A {\n  input  x[N, C]\n  re|duce C\n}\n", ["subtract their mean"]),
        (
            "norm A {\n  input  x[N, C]\n  reduce C\n  output |normalized\n}\n",
            ["the result of the clauses"],
        ),
        ("norm A {\n  input  x[N, C]\n  reduce C: |blocks(2)\n}\n", ["equal consecutive blocks"]),
        (
            "norm A {\n  input  x[N, C]\n  output mean(x |over C) * x\n}\n",
            ["the axes that are pooled"],
        ),
        ("norm A {\n  input  x[N, C]\n  reduce |D\n}\n", ["MN0302", "introduced by `input`"]),
        (LIBRARY_USER.replace("2 * B", "2 * |B"), ["track momentum"]),
    ],
)
def test_hover(marked: str, said: list[str]) -> None:
    text, offset = cut(marked)
    project, view = of(text)
    answer = hover.hover(project, view, offset)
    assert answer is not None
    for words_ in said:
        assert words_ in answer.markdown


def test_nothing_is_said_of_nothing() -> None:
    project, view = of("norm A {\n  input  x[N, C]  # over let x\n  reduce C\n}\n\n\n")
    for offset in (
        view.source.text.index("over"),
        view.source.text.index("let"),
        len(view.source.text),
    ):
        assert hover.hover(project, view, offset) is None


def test_hints_are_axes_that_are_not_written() -> None:
    text = (
        "norm A(g: int) {\n  input  x[N, C, *S]\n  let    m = mean(x over C: blocks(g), *S)\n"
        "  let    k = 2\n  let    d[N] = 1\n  output x - m * k * d\n}\n"
    )
    _, view = of(text)
    assert [h.text for h in display.hints(view, view.source.whole())] == ["[N, C/blocks(g)]"]
    assert display.hints(view, Span(view.name, 0, 5)) == []


@pytest.mark.parametrize("path", [*SPECS[::4], *BAD], ids=ids)
def test_any_text_has_colours_and_an_outline(path: Path) -> None:
    project, view = opened(path)
    spans = [c.span for c in display.semantic_tokens(view)]
    assert all(a.end <= b.start for a, b in pairwise(spans))
    for norm in display.outline(view):
        for child in norm.children:
            assert norm.whole.start <= child.span.start <= child.span.end <= norm.whole.end
    for o in view.occurrences:
        answer = hover.hover(project, view, o.span.start)
        is_missing = o.symbol.role is Role.NORM and view.source_of_norm(o.symbol.name) is None
        assert is_missing or (answer is not None and answer.markdown)


# ---- actions


@pytest.mark.parametrize("path", BAD, ids=ids)
def test_every_did_you_mean_is_an_edit(path: Path) -> None:
    """What says what was meant can write it, too."""
    _, view = opened(path)
    for diagnostic in view.findings.diagnostics:
        if any(help.startswith("did you mean") for help in diagnostic.helps):
            assert diagnostic.fixes, diagnostic.message


def test_a_warning_can_be_allowed() -> None:
    text = "norm A {\n  input  x[N, C]\n  reduce N\n}\n"
    _, view = of(text)
    (action,) = actions.actions(view, view.source.whole())
    after = apply_edits(text, [(edit.span, f"{edit.text}why") for edit in action.edits])
    assert after == text.replace("reduce N", "reduce N  # norm: allow MN0702 -- why")
    assert of(after)[1].findings.diagnostics == ()


@pytest.mark.parametrize("path", [*SPECS[::8], *BAD], ids=ids)
def test_formatting_is_that_of_fmt(path: Path) -> None:
    _, view = opened(path)
    text = view.source.text
    for edit in actions.formatting_edits(view):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    assert text == frontend.format_spec(view.source)[0]


# ---- the words


def test_every_word_is_explained_and_is_one() -> None:
    assert words.STATEMENTS.keys() == STATEMENT_WORDS | FILE_WORDS | SOFT_STATEMENT_WORDS
    assert words.CLAUSE_VALUES.keys() == {w for each in CLAUSE_WORDS.values() for w in each}
    grammar = (ROOT / "grammar" / "metanorm.lark").read_text()
    assert words.SOFT.keys() - {"none"} <= set(re.findall(r'"([a-z]+)"', grammar))
    for word in words.STATEMENTS:
        assert word in words.usage(word)
    assert [c for c in all_codes() if manual_page(c).severity is Severity.WARNING]


def test_a_source_is_not_read_twice() -> None:
    project, view = of(USER, inner__norm=BATCH)
    assert project.view(view.name) is view
    project.set_document(view.name, USER)
    assert project.view(view.name) is view
    assert isinstance(view.source, Source) and isinstance(view.occurrences[0], Occurrence)
    assert load([view.name], texts=project.texts).roots == [view.name]
