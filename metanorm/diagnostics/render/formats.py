"""The formats of `metanorm check --format`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from metanorm.diagnostics.model import Diagnostic
from metanorm.diagnostics.render.github import render_github
from metanorm.diagnostics.render.json import render_json
from metanorm.diagnostics.render.sarif import render_sarif
from metanorm.diagnostics.render.text import render_text
from metanorm.source import Source

Renderer = Callable[[Sequence[Diagnostic], Mapping[str, Source]], str]

RENDERERS: dict[str, Renderer] = {
    "text": render_text,
    "json": render_json,
    "github": render_github,
    "sarif": render_sarif,
}
