"""Equations as LaTeX: what binds how, and the forms that mathematics has signs for."""

from __future__ import annotations

import pytest

from metanorm.frontend import check
from metanorm.source import Source
from metanorm.syntax.latex_from_ast import latex_from_ast

MATRIX = r"C{:}\,\mathrm{blocks}(2)"

WRITTEN = {
    "a * (x + 1) * 2": r"a \, \left(x + 1\right) \cdot 2",
    "x - (a - 1)": r"x - \left(a - 1\right)",
    "x / a / 2": r"\frac{\frac{x}{a}}{2}",
    "-x^2": r"-{x}^{2}",
    "(x^2)^a": r"{\left({x}^{2}\right)}^{a}",
    "(-x)^2": r"{\left(-x\right)}^{2}",
    "a * -x": r"a \, \left(-x\right)",
    "x + 1e-5": r"x + 10^{-5}",
    "x * 2.5e-3": r"x \, \left(2.5 \cdot 10^{-3}\right)",
    "sqrt(abs(x))": r"\sqrt{\left\lvert x \right\rvert}",
    "x * size(C)": r"x \, \left\lvert C \right\rvert",
    "max(x, eps)": r"\max\left(x,\, \varepsilon\right)",
    "silu(x)": r"\mathrm{silu}\left(x\right)",
    "where(x > 0, x, a)": r"\begin{cases} x & \text{if } x > 0 \\ a & \text{otherwise} \end{cases}",
    "mode(train: x, eval: a * x)": (
        r"\begin{cases} x & \text{in training} \\ a \, x & \text{in evaluation} \end{cases}"
    ),
    "x - mean(x over C: blocks(2))": (
        rf"x - \mathop{{\mathrm{{mean}}}}\limits_{{{MATRIX}}}\left(x\right)"
    ),
    "x * sum(x over C)": r"x \, \left(\sum_{C} x\right)",
    "x / l2(x over N, C)": r"\frac{x}{\left\lVert x \right\rVert_{2;\,N,\, C}}",
    "x - var(x over N, about = a)": (
        r"x - \mathop{\mathrm{mean}}\limits_{N}\left({\left(x - a\right)}^{2}\right)"
    ),
    "x - var(x over N, about = 0)": r"x - \mathop{\mathrm{mean}}\limits_{N}\left({x}^{2}\right)",
    "x - mean(x over N where keep)": (
        r"x - \mathop{\mathrm{mean}}\limits_{N \,\mid\, \mathit{keep}}\left(x\right)"
    ),
    "affine(x + a per C)": (r"\mathit{weight}_{C} \, \left(x + a\right) + \mathit{bias}_{C}"),
    "affine(-x per C)": r"\mathit{weight}_{C} \, \left(-x\right) + \mathit{bias}_{C}",
    "affine(x + a per bias[C])": r"x + a + \mathit{bias}_{C}",
}


@pytest.mark.parametrize("expression", WRITTEN)
def test_expressions(expression: str) -> None:
    text = (
        f"norm A(a = 0.5, eps = 1e-5) {{\n  input  x[N, C], keep: mask[N]\n"
        f"  output {expression}\n}}\n"
    )
    checked = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"])
    assert checked.ok, checked.diagnostics
    (norm,) = checked.norms["a.norm"]
    first, line, last = latex_from_ast(norm.equations).rstrip().split("\n")
    assert (first, last) == (r"\begin{aligned}", r"\end{aligned}")
    assert line == f"y &= {WRITTEN[expression]}"


def test_statements() -> None:
    text = (
        "norm A(steps: int = 2) {\n  input  x[N, C]\n  buffer seen_max[C] = 0\n"
        "  let    alpha = mean(x over N track 0.1)\n  update seen_max = alpha\n"
        "  let    d = alpha\n  repeat steps { d = d / 2 }\n"
        "  output y = x - d - seen_max, alpha\n}\n"
    )
    checked = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"])
    assert checked.ok, checked.diagnostics
    lines = latex_from_ast(checked.norms["a.norm"][0].equations).split("\n")[1:-2]
    assert [line.removesuffix(r" \\") for line in lines] == [
        r"\alpha &= \mathop{\mathrm{mean}}\limits_{N}\left(x\right)"
        r"\qquad \text{(in evaluation the running average)}",
        r"\mathit{seen\_max} &\leftarrow \alpha",
        r"d &= \alpha",
        r"d &\leftarrow \frac{d}{2}\qquad (\mathit{steps} \text{ times})",
        r"y &= x - d - \mathit{seen\_max}",
    ]


def test_a_backward_pass() -> None:
    text = (
        "norm A {\n  input  x[N, C = channels]\n  buffer seen[C] = 0\n  output x\n"
        "  backward {\n    let g = grad * 2\n    gradient x = g - seen\n"
        "    update seen = sum(g over N)\n  }\n}\n"
    )
    checked = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"])
    lines = latex_from_ast(checked.norms["a.norm"][0].equations).split("\n")[1:-2]
    assert [line.removesuffix(r" \\") for line in lines] == [
        r"y &= x",
        r"\text{backward:} &",
        r"g &= \mathit{grad} \cdot 2",
        r"\nabla_{x} &= g - \mathit{seen}",
        r"\mathit{seen} &\leftarrow \sum_{N} g",
    ]
