"""The page of `explain --html`, drawings of passes, and formulas as MathML."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import in_this as run
from conftest import LIBRARY, PROGRAMS, ROOT

from metanorm import frontend
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import PIPELINE, optimize
from metanorm.plan.sweeps import plan_sweeps
from metanorm.show.islands import DataCube
from metanorm.show.mathml import UnknownCommand, mathml_from_latex
from metanorm.show.passes import pass_drawing
from metanorm.show.shapes import CHOSEN, Line, Polygon, Words
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.stages import program_at
from metanorm.syntax.latex_from_ast import latex_from_ast

NORMS = {
    norm.program.name: norm
    for norms in frontend.check(LIBRARY.sources, LIBRARY.roots).norms.values()
    for norm in norms
}
MATHML = frozenset(
    "math mrow mi mn mo mtext mspace mfrac msqrt msub msup msubsup munder mtable mtr mtd".split()
)
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "msubsup": 3}


@pytest.mark.parametrize("name", NORMS)
def test_equations_are_mathml(name: str) -> None:
    latex = latex_from_ast(NORMS[name].equations)
    root = ElementTree.fromstring(mathml_from_latex(latex))
    elements = list(root.iter())
    assert {e.tag for e in elements} <= MATHML
    assert all(len(e) == CHILDREN[e.tag] for e in elements if e.tag in CHILDREN)
    text = "".join(root.itertext())
    assert "\\" not in text and len(root[0]) == latex.count("\\\\\n") + 1  # rows
    for word in re.findall(r"\\math(?:it|rm)\{([^}]*)\}", latex):
        assert word.replace("\\_", "_") in text


def test_mathml_of_a_formula() -> None:
    formula = r"\frac{x - \mathit{my\_mean}}{\sqrt{{v}_{\mathrm{var}} + \varepsilon}} \text{ if } 2"
    root = ElementTree.fromstring(mathml_from_latex(formula))
    assert "".join(root.itertext()) == "x-my_meanvvar+ε if 2"
    assert [e.tag for e in root[0]] == ["mfrac", "mtext", "mn"]
    for unknown in (r"\int x", r"\begin{matrix} a \end{matrix}", r"\frac{a}"):
        with pytest.raises(UnknownCommand):
            mathml_from_latex(unknown)


# What part of the data an island is: of axes by their lengths in the example.
ISLANDS = {
    "LayerNorm": ("b", lambda b, d: d),
    "GroupNorm": ("ncs", lambda n, c, s: c // 2 * s),
    "BatchNorm": ("ncs", lambda n, c, s: n * s),
    "InstanceNorm": ("ncs", lambda n, c, s: s),
}


@pytest.mark.parametrize("name", ISLANDS)
def test_islands_hold_what_is_pooled_together(name: str) -> None:
    variant = directions(optimize(PROGRAMS[name]))[0]
    cube = DataCube(variant.forward)
    plan = plan_sweeps(variant.forward)
    dims = cube.program.inputs[0].dims
    lengths = [len(cube._edge(cube.space.leaves(d), plan, 0, 1).matrix.rows()) for d in dims]
    inside = 1
    for dim in dims:
        edge = cube._edge(cube.space.leaves(dim), plan, 0, 1)
        inside *= int(sum(edge.matrix.rows()[edge.chosen]))
    assert inside == ISLANDS[name][1](*lengths)
    colours = {s.fill for s in cube.drawing(plan, "").shapes if isinstance(s, Polygon)}
    assert CHOSEN in colours or len(dims) == 3


def test_graphs_are_islands_of_their_nodes() -> None:
    variant = directions(optimize(PROGRAMS["GraphNorm"]))[0]
    cube = DataCube(variant.forward)
    edge = cube._edge(cube.space.leaves("V"), plan_sweeps(variant.forward), 0, 2)
    assert [sum(row) for row in edge.matrix.rows()] == [5] * 5 + [3] * 3


@pytest.mark.parametrize("name", ["GroupNorm", "SwitchNorm", "GraphNorm", "Muon"])
def test_a_pass_is_drawn_with_what_went_and_came(name: str) -> None:
    program = PROGRAMS[name]
    stages = ["ir", *(step.name for step in PIPELINE)]
    for before, after in pairwise(stages):
        first, second = program_at(program, before), program_at(program, after)
        drawing = pass_drawing(name, after, first, second)
        ElementTree.fromstring(svg_from_drawing(drawing))
        rows = [s for s in drawing.shapes if isinstance(s, Words) and s.mono]
        assert len(rows) == len(first.body) + len(second.body)
        if first.body == second.body:
            assert sum(isinstance(s, Line) for s in drawing.shapes) == len(first.body)


def test_share_leaves_one_look_at_the_data() -> None:
    program = PROGRAMS["SwitchNorm"]
    drawing = pass_drawing(
        "", "share", program_at(program, "products"), program_at(program, "share")
    )
    texts = [s.text for s in drawing.shapes if isinstance(s, Words) and s.mono]
    assert any("mean(x over C, S)" in text for text in texts)  # what went
    assert any("mean(inst_mean over C)" in text for text in texts)  # what came


@pytest.mark.parametrize("spec", ["group_norm", "graph_norm", "spectral_norm", "llm_norm", "muon"])
def test_a_page_needs_no_other_file(spec: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    done = run("explain", str(ROOT / "specs" / f"{spec}.norm"), "--html", str(file))
    assert done.returncode == 0 and not done.stdout and "written" in done.stderr
    text = file.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="|url\(|@import', text)
    for heading in ("Equations", "The spec", "What is pooled"):
        assert f"<h2>{heading}</h2>" in text
    assert ("derived gradient" in text) == ("Memory traffic" in text)


def test_a_page_on_standard_output(tmp_path: Path) -> None:
    done = run("explain", str(ROOT / "specs" / "layer_norm.norm"), "--html", "-", folder=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("<!doctype html>")
    assert not list(tmp_path.iterdir())


def test_a_page_says_what_sweeps_do(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    run("explain", str(ROOT / "specs" / "layer_norm.norm"), "--html", str(file))
    text = file.read_text(encoding="utf-8")
    assert "measures <code>mean and variance of x per B</code>" in text
    assert "writes <code>d.x = " in text and "a copy: 8 bytes" in text


WRONG = {
    ("explain", "MN0302", "--html", "a.html"): "--html does not go with `MN0302`",
    ("explain", "a.norm", "--json", "--html", "a.html"): "--html does not go with --json",
    (
        "explain",
        "a.norm",
        "--html",
        "a.norm",
    ): "is no name of a page: it must end in .html",
    ("bench", "a.norm", "--chart", "a.norm"): "is no name of a chart: it must end in .png",
    ("bench", "a.norm", "--json", "a.norm"): "is no name of measurements: it must end in .json",
    ("inspect", "a.norm", "--format", "svg", "--stage", "code"): "--format svg draws ir, simplify",
    ("inspect", "a.norm", "--format", "svg"): "a.norm has 2 norms; choose one with --norm",
    ("inspect", "a.norm", "--format", "svg", "--norm", "C"): "C",
}


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_what_cannot_be_drawn(command: tuple[str, ...], tmp_path: Path) -> None:
    norms = "".join(f"norm {n} {{\n  input x[N, C]\n  reduce C\n}}\n" for n in "AB")
    (tmp_path / "a.norm").write_text(norms)
    done = run(*command, folder=tmp_path)
    assert done.returncode == 2 and WRONG[command] in done.stderr
    assert not (tmp_path / "a.html").exists()


def test_inspect_draws_one_norm(tmp_path: Path) -> None:
    done = run("inspect", str(ROOT / "specs/group_norm.norm"), "--stage", "fold", "--format", "svg")
    assert done.returncode == 0
    assert "GroupNorm, before and after fold" in "".join(
        ElementTree.fromstring(done.stdout).itertext()
    )
