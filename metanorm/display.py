"""The display of a loaded module in a notebook: equations, pools, cost, source."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from types import ModuleType
from typing import Any

from metanorm import frontend
from metanorm.explain.facts import Facts, facts
from metanorm.explain.text_from_facts import text_from_facts
from metanorm.frontend import CheckedNorm
from metanorm.show.example import CannotDraw
from metanorm.show.picture import picture
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.syntax.latex_from_ast import latex_from_ast
from metanorm.visible import visible_lines
from metanorm.workspace import Workspace

COLUMNS = ("", "sweeps", "bytes for each float32 element", "islands")


class DisplayedModule(ModuleType):
    """A generated module that knows its spec."""

    _specs: Workspace

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The texts that a notebook may show, by MIME type."""
        return mime_bundle(self, self._specs)


def with_display(module: ModuleType, specs: Workspace) -> ModuleType:
    """The same module, with a display from now on."""
    if not isinstance(module, DisplayedModule):
        module.__class__ = DisplayedModule
    vars(module)["_specs"] = specs
    return module


def mime_bundle(module: ModuleType, specs: Workspace) -> dict[str, str]:
    """The display of a module by MIME type: text, LaTeX and HTML."""
    norms = frontend.check(specs.sources, specs.roots).norms[specs.roots[0]]
    facts_of_norms = [(norm, facts(norm, {})) for norm in norms]
    spec = specs.sources[specs.roots[0]].text
    return {
        "text/plain": visible_lines(
            "\n".join(text_from_facts(norm_facts) for _, norm_facts in facts_of_norms)
        ),
        "text/latex": "\n".join(_equations_latex(norm) for norm in norms),
        "text/html": "\n".join((*_facts_html(facts_of_norms), *_sources_html(module, spec))),
    }


def _facts_html(facts_of_norms: list[tuple[CheckedNorm, Facts]]) -> Iterator[str]:
    for norm, norm_facts in facts_of_norms:
        yield f"<h4>{escape(norm_facts.norm)}</h4>"
        if norm_facts.about:
            yield f"<p>{escape(visible_lines(norm_facts.about))}</p>"
        yield _equations_latex(norm)
        yield _picture_html(norm)
        yield _costs_html(norm_facts)


def _equations_latex(norm: CheckedNorm) -> str:
    return f"$$\n{latex_from_ast(norm.equations)}$$"


def _picture_html(norm: CheckedNorm) -> str:
    """The picture of the pools. An `<img>` keeps the styles and ids of its SVG from others."""
    name = escape(norm.program.name)
    try:
        svg = svg_from_drawing(picture(norm.program))
    except CannotDraw as reason:
        return f"<p>There is no small example of {name} to draw: {escape(str(reason))}</p>"
    data = base64.b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="What {name} pools">'


def _costs_html(norm_facts: Facts) -> str:
    rows = [
        (c.of, str(c.sweeps), _traffic_text(c.bytes_of_islands, c.bytes_of_sweeps), c.islands)
        for c in norm_facts.costs
    ]
    if not rows:
        return f"<p>{escape(norm_facts.kernels)}</p>"
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table><p>{escape(norm_facts.kernels)}</p>"


def _traffic_text(island_bytes: int, sweep_bytes: int) -> str:
    return str(island_bytes) if island_bytes == sweep_bytes else f"{island_bytes} to {sweep_bytes}"


def _sources_html(module: ModuleType, spec: str) -> Iterator[str]:
    from inspect import getsource

    for title, text in (("The spec", spec), ("The module", getsource(module))):
        listing = f"<pre>{escape(visible_lines(text))}</pre>"
        yield f"<details><summary>{title}</summary>{listing}</details>"
