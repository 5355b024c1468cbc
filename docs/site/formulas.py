"""Renders formulas while the site is built, by KaTeX, so that pages fetch and run nothing for them.

A formula that KaTeX does not know is an error of the build.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

SCRIPT = Path(__file__).with_name("formulas.mjs")


class Formulas:
    """A process of node that renders one formula after the other."""

    def __init__(self, app: Sphinx) -> None:
        self.app = app
        self.process: subprocess.Popen[str] | None = None

    def html(self, tex: str, display: bool) -> str:
        """A formula as HTML. Raises `ExtensionError`."""
        if self.process is None:
            command = ["node", str(SCRIPT), self.app.config.formulas_node_folder]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8")
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "node has ended"}
        if "error" in answer:
            raise ExtensionError(f"{answer['error']}\n{tex}")
        return str(answer["html"])

    def inline(self, translator: HTML5Translator, node: nodes.math) -> None:
        """Write a formula within a line."""
        translator.body.append(self.html(node.astext(), display=False))
        raise nodes.SkipNode

    def block(self, translator: HTML5Translator, node: nodes.math_block) -> None:
        """Write a formula on lines of its own."""
        html = self.html(node.astext(), display=True)
        translator.body.append(f'<div class="math">{html}</div>\n')
        raise nodes.SkipNode

    def close(self, app: Sphinx, error: Exception | None) -> None:
        """End the process."""
        if self.process is not None:
            self.process.communicate()


def setup(app: Sphinx) -> dict[str, object]:
    """What Sphinx calls."""
    formulas = Formulas(app)
    app.add_config_value("formulas_node_folder", "", "env")
    app.add_html_math_renderer(
        "katex",
        inline_renderers=(formulas.inline, None),
        block_renderers=(formulas.block, None),
    )
    app.add_css_file("katex/katex.min.css")
    app.connect("build-finished", formulas.close)
    return {"parallel_read_safe": True}
