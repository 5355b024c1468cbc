"""A norm on one page of HTML that needs no other file: `metanorm explain SPEC --html FILE`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from metanorm.explain.facts import Facts
from metanorm.explain.formulas import SweepSteps, steps_of_sweeps
from metanorm.explain.kernels import Cost
from metanorm.frontend import CheckedNorm
from metanorm.ir.program import Program
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import optimize
from metanorm.plan.sweeps import Plan, plan_sweeps
from metanorm.show.example import CannotDraw
from metanorm.show.islands import DataCube, traffic_drawing
from metanorm.show.mathml import mathml_from_latex
from metanorm.show.picture import picture
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.syntax.latex_from_ast import latex_from_ast
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.visible import visible_lines

COPY = 8  # bytes that a copy of float32 data reads and writes for each element

STYLE = """
:root { color-scheme: light dark; --line: #9aa4af55; --soft: #9aa4af22 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem }
pre, code { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace }
pre { background: var(--soft); padding: .7rem 1rem; overflow-x: auto; border-radius: 6px }
table { border-collapse: collapse } td, th { text-align: left; padding: .25rem .8rem .25rem 0 }
tr { border-bottom: 1px solid var(--line) } math { font-size: 1.15rem } .word { font-style: italic }
.scroll { overflow-x: auto } svg { display: block; max-width: 100%; height: auto }
.sweeps { display: flex; flex-wrap: wrap; gap: 1rem }
.sweep { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .9rem; max-width: 27rem }
"""


def page(norms: Sequence[tuple[CheckedNorm, Facts]], title: str) -> str:
    """The page of all norms of a file."""
    body = "\n".join(part for norm, facts in norms for part in _norm(norm, facts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _norm(norm: CheckedNorm, facts: Facts) -> Iterator[str]:
    yield f"<h1>{_text(facts.norm)}</h1>"
    if facts.about:
        yield f"<p>{_text(facts.about)}</p>"
    yield "<h2>Equations</h2>"
    yield f'<div class="scroll">{mathml_from_latex(latex_from_ast(norm.equations))}</div>'
    yield "<h2>The spec</h2>"
    yield f"<pre>{_text(chr(10).join(norm_lines(norm.norm)).strip())}</pre>"
    yield "<h2>What is pooled</h2>"
    yield from _pools(norm)
    yield _table(facts)
    yield from _directions(norm, facts)


def _pools(norm: CheckedNorm) -> Iterator[str]:
    try:
        yield f'<div class="scroll">{svg_from_drawing(picture(norm.program))}</div>'
    except CannotDraw as reason:
        yield f"<p>There is no small example to draw: {_text(str(reason))}.</p>"


def _table(facts: Facts) -> str:
    rows = {
        "pooled": facts.pools or ("nothing",),
        "learned": facts.learned or ("nothing",),
        "kept between calls": facts.kept or ("nothing",),
        **({"backward pass, in training": facts.stated} if facts.stated else {}),
        "kernels": (facts.kernels,),
        "the same as": facts.equals or ("no other norm of the library",),
    }
    lines = "".join(
        f"<tr><th>{what}</th><td>{'<br>'.join(map(_text, answers))}</td></tr>"
        for what, answers in rows.items()
    )
    return f"<table>{lines}</table>"


# ---- sweeps


def _directions(norm: CheckedNorm, facts: Facts) -> Iterator[str]:
    """Each direction of each variant: islands on the data, steps of sweeps, bytes."""
    if not facts.costs:
        yield "<h2>Cost</h2>"
        yield f"<p>{_text(facts.reads)}. Kernels: {_text(facts.kernels)}.</p>"
        return
    costs = {cost.of: cost for cost in facts.costs}
    yield "<h2>Sweeps and islands</h2>"
    yield (
        "<p>A sweep is one pass over the data. What is blue is an island: it exchanges nothing "
        "with the rest before its results are known, so that all sweeps can run while it is in a "
        "cache. "
        "One element of it is orange.</p>"
    )
    for variant in directions(optimize(norm.program)):
        cube = _cube(variant.forward)
        for direction, program in (("forward", variant.forward), ("backward", variant.backward)):
            cost = costs[f"{variant.variant}, {direction}"]
            yield from _direction(cost, plan_sweeps(program), direction, cube)
    yield "<h2>Memory traffic</h2>"
    yield "<p>Bytes that are read and written for each element of float32 data.</p>"
    bars = traffic_drawing(_traffic(facts.costs), COPY)
    yield f'<div class="scroll">{svg_from_drawing(bars)}</div>'


def _cube(forward: Program) -> DataCube | None:
    try:
        return DataCube(forward)
    except CannotDraw:
        return None


def _direction(cost: Cost, plan: Plan, direction: str, cube: DataCube | None) -> Iterator[str]:
    derived = ": the derived gradient" if direction == "backward" else ""
    yield f"<h3>{_text(cost.of)}{derived}</h3>"
    yield f"<p>Islands: {_text(cost.islands)}.</p>"
    drawn = ""
    if cube is not None:
        drawn = svg_from_drawing(cube.drawing(plan, f"An island: {cost.islands}"))
    steps = "".join(
        f'<div class="sweep">{drawn}{_sweep(number, step)}</div>'
        for number, step in enumerate(steps_of_sweeps(plan), 1)
    )
    yield f'<div class="sweeps">{steps}</div>'


def _sweep(number: int, step: SweepSteps) -> str:
    lines = [f"reads <code>{_text(', '.join(step.reads))}</code>"]
    lines += [f"computes <code>{_text(line)}</code>" for line in step.computes]
    lines += [f"measures <code>{_text(line)}</code>" for line in step.measures]
    lines += [f"writes <code>{_text(line)}</code>" for line in step.writes]
    return f"<b>Sweep {number}</b> {'<br>'.join(lines)}"


def _traffic(costs: Sequence[Cost]) -> list[tuple[str, int]]:
    rows = []
    for cost in costs:
        rows.append((f"{cost.of}, islands in a cache", cost.bytes_of_islands))
        if cost.bytes_of_sweeps != cost.bytes_of_islands:
            rows.append((f"{cost.of}, else", cost.bytes_of_sweeps))
    return rows


def _text(text: str) -> str:
    return escape(visible_lines(text))
