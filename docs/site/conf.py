"""The configuration of Sphinx. `python -m docs.site` says which folders there are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from docs.site.links import REPOSITORY
from metanorm.pygments_lexer import NormLexer
from metanorm.version import __version__

project = "metanorm"
author = copyright = "The metanorm developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docs.site.links",
    "docs.site.formulas",
]

myst_enable_extensions = ["html_image"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 6

default_role = "code"  # docstrings have `names` as Markdown has them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# The types of other projects, whose pages this site does not fetch, and type variables.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|numbers|os|types|typing|torch)\..*"),
    (r"py:.*", r"(nn|dist)\..*|Tensor|Optimizer|optional"),
    (r"py:class", r"metanorm\.[\w.]+\.[A-Z]"),
]

html_theme = "furo"
html_title = "metanorm"
html_math_renderer = "katex"
html_favicon = "../playground/favicon.svg"
html_copy_source = False
html_theme_options = {"source_repository": REPOSITORY}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """Languages of fences: that of specs is metanorm's own, and Pygments has none for Lark."""
    app.add_lexer("norm", NormLexer)
    app.add_lexer("lark", TextLexer)
