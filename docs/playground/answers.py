"""What the page asks of the compiler: JSON in, JSON out.

It runs in the browser, where there is no torch, no pydantic and no terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache

from metanorm.diagnostics.render.json import report_fields
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import Result, compile_specs
from metanorm.explain.facts import facts
from metanorm.explain.fingerprints import norms_by_fingerprint
from metanorm.explain.text_from_facts import text_from_facts
from metanorm.findings import Findings, findings
from metanorm.frontend import format_spec
from metanorm.json_document import jsonable
from metanorm.lsp import completion
from metanorm.lsp.project import View
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.show.example import CannotDraw
from metanorm.show.picture import picture
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.syntax.latex_from_ast import latex_from_ast
from metanorm.workspace import load, load_library


@lru_cache(maxsize=8)
def _checked(name: str, text: str) -> Findings:
    return findings(load([name], texts={name: text}))


@lru_cache(maxsize=8)
def _compiled(name: str, text: str) -> Result:
    workspace = _checked(name, text).workspace
    return compile_specs(workspace.sources, workspace.roots, Options())


@lru_cache(maxsize=1)
def _library() -> dict[str, str]:
    return norms_by_fingerprint(load_library())


def check(name: str, text: str) -> object:
    """The diagnostics, as `metanorm check --format json` has them, and as it prints them."""
    checked = _checked(name, text)
    sources = checked.workspace.sources
    return {
        **report_fields(checked.diagnostics, sources),
        "report": render_text(checked.diagnostics, sources),
    }


def module(name: str, text: str) -> object:
    """The generated module; `None` for a spec with errors."""
    return _compiled(name, text).files.get(f"{module_name(name)}.py")


def kernels(name: str, text: str) -> object:
    """The kernels in C; `None` for a spec with errors, or one that has none."""
    return _compiled(name, text).files.get(f"{module_name(name)}.c")


def equations(name: str, text: str) -> object:
    """The equations of each norm, in LaTeX."""
    return [
        {"norm": norm.program.name, "latex": latex_from_ast(norm.equations)}
        for norm in _checked(name, text).checked.norms.get(name, ())
    ]


def pools(name: str, text: str) -> object:
    """The picture of the pools of each norm, or why there is none."""
    drawn = []
    for norm in _checked(name, text).checked.norms.get(name, ()):
        answer = {"norm": norm.program.name, "svg": "", "reason": ""}
        try:
            answer["svg"] = svg_from_drawing(picture(norm.program))
        except CannotDraw as reason:
            answer["reason"] = str(reason)
        drawn.append(answer)
    return drawn


def explanation(name: str, text: str) -> object:
    """What `metanorm explain` prints of the norms."""
    norms = _checked(name, text).checked.norms.get(name, ())
    return "\n".join(text_from_facts(facts(norm, _library())) for norm in norms)


def formatted(name: str, text: str) -> object:
    """The text as `metanorm fmt` has it; as it is, where it has syntax errors."""
    workspace = _checked(name, text).workspace
    return format_spec(workspace.sources[name])[0] if name in workspace.sources else text


def completions(name: str, text: str, offset: int) -> object:
    """What may be written at an offset, by the rules of the language server."""
    checked = _checked(name, text)
    if name not in checked.workspace.sources:
        return []
    return completion.completion(View(name, checked), offset)


ANSWERS: Mapping[str, Callable[..., object]] = {
    "check": check,
    "module": module,
    "kernels": kernels,
    "equations": equations,
    "pools": pools,
    "explanation": explanation,
    "formatted": formatted,
    "completions": completions,
}


def answer(about: str, name: str, text: str, *more: int) -> str:
    """The answer about a spec, as JSON. `name` is that of its file."""
    return json.dumps(jsonable(ANSWERS[about](name, text, *more)))
