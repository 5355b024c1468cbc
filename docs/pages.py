"""Generates pages in Markdown from the tables of operations and errors."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from metanorm.diagnostics.registry import ManualPage, all_codes, manual_page
from metanorm.driver import compile_specs
from metanorm.ir.ops import Operation, public
from metanorm.options import Options
from metanorm.workspace import STDIN, load

GENERATED_NOTICE = "<!-- Written by `make docs`; change the table it comes from. -->\n\n"

FENCE = "```norm\n"

GROUPS = {
    "operator": ("Operators", "Values combine by the names of their axes; a missing one repeats."),
    "elementwise": ("Elementwise functions", "Of values with any axes, and of numbers."),
    "statistic": (
        "Statistics",
        "`P` is a pool: axes with their matrices, such as `N, C: blocks(g) where mask`. What is "
        "pooled whole is gone from the result.",
    ),
    "form": ("Forms", "What needs more than a value: a pool, an axis, two modes."),
    "matrix": ("Pooling matrices", "How the positions of one axis are pooled."),
    "draw": (
        "Random initial values",
        "What parameters and buffers begin with: `param gate[K, C] = normal(0, 0.02)`. What `init` "
        "computes says which positions get a number each: `normal(0, 1 per O)`.",
    ),
}


def operations() -> str:
    """The page of all operations."""
    text = f"# Operations\n\n{GENERATED_NOTICE}"
    text += "What a spec can compute. `metanorm explain NAME` prints the row of one.\n"
    for group, rows in _groups():
        title, about = GROUPS[group]
        text += f"\n## {title}\n\n{about}\n\n| operation | meaning |\n| --- | --- |\n"
        for row in rows:
            usage = row.usage.replace("|", "\\|")
            text += f"| `{usage}` | {row.meaning} |\n"
    return text


def names_of_operations() -> str:
    """One line for each group, for the language page."""
    lines = []
    for group, rows in _groups():
        names = dict.fromkeys(row.usage if group == "operator" else row.name for row in rows)
        lines.append(f"- {GROUPS[group][0]}: {', '.join(f'`{name}`' for name in names)}\n")
    return "".join(lines)


def _groups() -> list[tuple[str, list[Operation]]]:
    order = list(GROUPS)
    rows = sorted(public(), key=lambda row: order.index(row.group))
    return [(group, list(members)) for group, members in groupby(rows, lambda row: row.group)]


def errors() -> str:
    """The manual pages of all codes."""
    text = f"# Errors and warnings\n\n{GENERATED_NOTICE}"
    text += "`metanorm explain CODE` prints the page of one.\n\n"
    text += "| code | what is wrong |\n| --- | --- |\n"
    pages = [manual_page(code) for code in all_codes()]
    for page in pages:
        text += f"| [{page.code}](#{_anchor(page)}) | {page.title} |\n"
    return text + "".join(f"\n{_page_with_reports(page)}" for page in pages)


def _anchor(page: ManualPage) -> str:
    """The anchor of a heading on GitHub: lower case, hyphens, no punctuation."""
    heading = f"{page.code}: {page.title}".lower().replace(" ", "-")
    return "".join(c for c in heading if c.isalnum() or c in "-_")


def _page_with_reports(page: ManualPage) -> str:
    """The page. The fence of each example names the codes that it reports."""
    first, *examples = page.markdown.split(FENCE)
    for example in examples:
        codes = ",".join(_codes(example.partition("```")[0]))
        first += f"```norm reports={codes}\n{example}" if codes else FENCE + example
    return first


def _codes(spec: str) -> list[str]:
    specs = load([STDIN], stdin=spec.encode())
    diagnostics = compile_specs(specs.sources, specs.roots, Options()).diagnostics
    return sorted({diagnostic.code for diagnostic in (*specs.diagnostics, *diagnostics)})


def grammar() -> str:
    """The grammar, as the parser reads it."""
    path = Path(__file__).parents[1] / "grammar" / "metanorm.lark"
    return f"```lark from=grammar/metanorm.lark\n{path.read_text(encoding='utf-8')}```\n"
