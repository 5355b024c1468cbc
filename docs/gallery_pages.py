"""Generates the gallery: a page for each spec, a picture for each norm, and an index."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from docs.effects import effects_by_norm
from docs.pages import GENERATED_NOTICE
from metanorm import frontend
from metanorm.explain.facts import Facts, facts
from metanorm.explain.kernels import Cost
from metanorm.explain.origin import citation, summary
from metanorm.frontend import CheckedNorm
from metanorm.ir.fingerprint import fingerprint
from metanorm.passes.pipeline import optimize
from metanorm.resources import LIBRARY
from metanorm.semantics.naming import snake_case
from metanorm.show.invariance import ChangedAxes, invariances
from metanorm.show.picture import picture
from metanorm.show.shapes import Drawing
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.syntax.latex_from_ast import latex_from_ast
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.workspace import load_library

NOTICE = GENERATED_NOTICE.replace("the table it comes from", "the spec")
THUMBNAIL = 150  # pixels
EFFECTS = effects_by_norm()


@dataclass(frozen=True)
class Exhibit:
    """A norm with its facts, its picture and its invariances."""

    norm: CheckedNorm
    file: str  # the name of its spec, without extension
    facts: Facts
    drawing: Drawing
    invariances: Mapping[str, tuple[ChangedAxes, ...]]

    @property
    def name(self) -> str:
        """The name of the norm."""
        return self.norm.program.name

    @property
    def image(self) -> str:
        """The file name of the picture."""
        return f"{snake_case(self.name)}.svg"


def gallery() -> dict[str, str]:
    """The files of `docs/gallery`, by name."""
    pages: dict[str, list[Exhibit]] = {}
    gc.disable()  # saves a third of the time: nearly all objects live to the end
    try:
        for exhibit in exhibits():
            pages.setdefault(exhibit.file, []).append(exhibit)
    finally:
        gc.enable()
    all_exhibits = [exhibit for page in pages.values() for exhibit in page]
    return {
        "README.md": index(all_exhibits),
        **{f"{file}.md": page(file, page_exhibits) for file, page_exhibits in pages.items()},
        **{exhibit.image: svg_from_drawing(exhibit.drawing) for exhibit in all_exhibits},
    }


def exhibits() -> Iterator[Exhibit]:
    """Every norm of the library, in the order of its files."""
    library = load_library()
    checked = frontend.check(library.sources, library.roots)
    norms = [(root, norm) for root in library.roots for norm in checked.norms[root]]
    names_by_fingerprint = {
        fingerprint(optimize(norm.program)): norm.program.name for _, norm in norms
    }
    for root, norm in norms:
        file = root.removeprefix(LIBRARY).removesuffix(".norm")
        yield Exhibit(
            norm,
            file,
            facts(norm, names_by_fingerprint),
            picture(norm.program),
            invariances(norm.program),
        )


# ---- the index


def index(shown: Sequence[Exhibit]) -> str:
    """All norms with small pictures, by name."""
    files = len({exhibit.file for exhibit in shown})
    lines = [
        "# Gallery",
        "",
        f"{NOTICE}The {len(shown)} norms of the library, from {files} files. Each has a "
        "page with its equations, its spec, and what the compiler knows of it.",
        "",
        "A picture shows one element of a small input in orange, and in blue what is pooled with "
        "it. Below it are the matrices that say so, one for each axis; their product, ⊗, is the "
        "pool. All of this is what the [oracle](../how-it-works.md#the-oracle-and-verify) computes "
        "with. `metanorm show SPEC -o FILE` draws any spec.",
        "",
        "What leaves a result unchanged was tried on the same small input, in training mode, by "
        "multiplying with positive numbers and by adding numbers: one for each position of the "
        "axes that are named, or one in all. Differences that an `eps` makes do not count.",
        "",
        "| | norm | from | runs on |",
        "| --- | --- | --- | --- |",
    ]
    for exhibit in sorted(shown, key=lambda e: e.name):
        page = f"{exhibit.file}.md#{exhibit.name.lower()}"
        small = f'<img src="{exhibit.image}" width="{THUMBNAIL}" alt="{exhibit.name}">'
        about = _cell(summary(exhibit.norm.program.doc))
        lines.append(
            f"| {small} | [{exhibit.name}]({page})<br>{about} "
            f"| {_cell(citation(exhibit.norm.program.doc))} | {_execution_text(exhibit.facts)} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _execution_text(norm_facts: Facts) -> str:
    phrase, _, reason = norm_facts.kernels.partition(": ")
    return f"torch: {reason}" if reason and phrase.startswith("none") else "kernels and torch"


# ---- a page


def page(file: str, shown: Sequence[Exhibit]) -> str:
    """The norms of a file."""
    title = shown[0].name if len(shown) == 1 else f"`{file}.norm`"
    links = (
        f"[Gallery](README.md) · [the spec](../../specs/{file}.norm) · "
        f"[the generated module](../../tests/good/specs/{file}.py)"
    )
    sections = "\n".join(_section(exhibit, len(shown) > 1) for exhibit in shown)
    return f"# {title}\n\n{NOTICE}{links}\n\n{sections}"


def _section(exhibit: Exhibit, headed: bool) -> str:
    norm_facts = exhibit.facts
    parts = [f"## {exhibit.name}\n"] if headed else []
    parts += [f"{_escaped_comment(norm_facts.about)}\n"] if norm_facts.about else []
    parts.append(f"![{escape(exhibit.drawing.title)}]({exhibit.image})\n")
    parts.append(f"```math\n{latex_from_ast(exhibit.norm.equations)}```\n")
    spec = "\n".join(norm_lines(exhibit.norm.norm))
    parts.append(f"```norm from=specs/{exhibit.file}.norm\n{spec.strip()}\n```\n")
    parts.append(_table(exhibit))
    return "\n".join(parts)


def _escaped_comment(text: str) -> str:
    """A comment with the special characters of Markdown escaped, except in its `code`."""
    pieces = text.split("`")
    outside = [piece.replace("*", "\\*").replace("<", "&lt;") for piece in pieces]
    return "`".join(piece if i % 2 else outside[i] for i, piece in enumerate(pieces))


def _table(exhibit: Exhibit) -> str:
    norm_facts = exhibit.facts
    rows = [
        ("pooled", _lines(norm_facts.pools) or "nothing"),
        ("learned", _lines(norm_facts.learned) or "nothing"),
        ("kept between calls", _lines(norm_facts.kept) or "nothing"),
    ]
    if norm_facts.stated:
        rows.append(("backward pass, in training", _lines(norm_facts.stated)))
    if norm_facts.target in ("activation", "loss"):
        rows.append(("samples influence each other", _samples_text(norm_facts)))
    else:
        rows.append(("made for", f"a {norm_facts.target}"))
    rows.append(("result unchanged by", _invariance_text(exhibit)))
    rows += [(cost.of, _cost_text(cost)) for cost in norm_facts.costs]
    rows.append(("kernels", _cell(norm_facts.kernels)))
    if norm_facts.equals:
        rows.append(("the same as", ", ".join(norm_facts.equals)))
    if exhibit.name in EFFECTS:
        rows.append(("measured", "<br>".join(EFFECTS[exhibit.name])))
    lines = "".join(f"| {what} | {answer} |\n" for what, answer in rows)
    return f"| | |\n| --- | --- |\n{lines}"


def _invariance_text(exhibit: Exhibit) -> str:
    """`scaling x for each N, C<br>shifting x as a whole`."""
    first = exhibit.norm.program.inputs[0].name
    changes_by_axes: dict[ChangedAxes, list[str]] = {}
    for change, axes_of_change in exhibit.invariances.items():
        for axes in axes_of_change:
            changes_by_axes.setdefault(axes, []).append(change)
    lines = [
        f"{' and '.join(changes)} {first} "
        + (f"for each {', '.join(axes)}" if axes else "as a whole")
        for axes, changes in changes_by_axes.items()
    ]
    return _lines(lines) or f"neither scaling nor shifting {first}"


def _lines(items: Sequence[str]) -> str:
    return "<br>".join(map(_cell, items))


def _samples_text(norm_facts: Facts) -> str:
    """In which modes samples influence each other."""
    if norm_facts.samples_meet_in_training == norm_facts.samples_meet_in_evaluation:
        return "yes" if norm_facts.samples_meet_in_training else "no"
    return "in training" if norm_facts.samples_meet_in_training else "in evaluation"


def _cost_text(cost: Cost) -> str:
    island_bytes, sweep_bytes = cost.bytes_of_islands, cost.bytes_of_sweeps
    sweeps = f"{cost.sweeps} sweep{'s' if cost.sweeps != 1 else ''}"
    text = f"{sweeps}, {island_bytes} bytes for each float32 element"
    if island_bytes != sweep_bytes:
        text += f" where an island stays in the cache, else {sweep_bytes}"
    return f"{text}<br>islands: {_cell(cost.islands)}"
