"""The gallery is what the specs make of it, complete, and mathematics that pages can show."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT

sys.path.insert(0, str(ROOT))

from docs import generate
from docs.generate import folder_files, stale

FOLDER = "docs/gallery"
SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.norm"))

# What KaTeX and MathJax both know and GitHub allows.
COMMANDS = set(
    "alpha beta gamma delta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
    "varepsilon nabla begin end frac sqrt sum left right lvert rvert lVert rVert leq geq neq to "
    "leftarrow mid cdot exp log sin cos tanh max min mathit mathrm mathop limits text qquad".split()
)


@pytest.fixture(scope="module")
def gallery() -> dict[str, str | None]:
    return folder_files(FOLDER)


def test_it_is_fresh(gallery: dict[str, str | None]) -> None:
    assert stale(gallery) == [], "run `make docs`"


def test_it_is_complete(gallery: dict[str, str | None]) -> None:
    pages = {Path(name).stem for name in gallery if name.endswith(".md")} - {"README"}
    assert sorted(pages) == SPECS
    assert sum(name.endswith(".svg") for name in gallery) == len(PROGRAMS)
    index = gallery[f"{FOLDER}/README.md"] or ""
    assert sorted(re.findall(r"\| \[(\w+)\]\(", index)) == sorted(PROGRAMS)
    for name in re.findall(r'<img src="([^"]+)"', index):
        assert f"{FOLDER}/{name}" in gallery


def test_what_has_no_spec_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a gallery of one file: what is missing, changed or left over."""
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "FOLDERS", {"gallery": lambda: {"a.md": "new"}})
    assert stale(folder_files("gallery")) == ["gallery/a.md"]
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "a.md").write_text("new")
    assert stale(folder_files("gallery")) == []
    (tmp_path / "gallery" / "b.md").write_text("left over")
    assert stale(folder_files("gallery")) == ["gallery/b.md"]


def formulas(gallery: dict[str, str | None]) -> list[str]:
    text = "\n".join(text or "" for name, text in gallery.items() if name.endswith(".md"))
    return re.findall(r"```math\n(.*?)```", text, re.DOTALL)


def test_formulas_are_sound(gallery: dict[str, str | None]) -> None:
    formulas_by_page = formulas(gallery)
    assert len(formulas_by_page) == len(PROGRAMS)
    for formula in formulas_by_page:
        assert unsound(formula) == "", formula


def unsound(formula: str) -> str:
    """What is wrong with a formula: commands, braces, brackets, environments, double subscripts."""
    commands = re.findall(r"\\([a-zA-Z]+|.)", formula, re.DOTALL)
    unknown = {c for c in commands if c.isalpha()} - COMMANDS
    if unknown or {c for c in commands if not c.isalpha()} - set(",_\\"):
        return f"commands {unknown}"
    opened: list[str] = []
    closes = {"}": "{", r"\right": r"\left"}
    for token in re.findall(r"\\\\|\\_|\\(?:begin|end)\{\w+\}|\\(?:left|right)\b|[{}]", formula):
        if token in closes.values() or token.startswith(r"\begin"):
            opened.append(token.replace("begin", "end"))
        elif token in closes or token.startswith(r"\end"):
            last = opened.pop() if opened else ""
            if last != closes.get(token, token):
                return f"{token} closes {last or 'nothing'}"
    if opened:
        return f"{opened} are open"
    without_escapes = re.sub(r"\\_", "", formula)
    if re.search(r"_\{[^{}]*\}_|\^\{[^{}]*\}\^|_\w_", without_escapes):
        return "two subscripts"
    return ""


@pytest.mark.parametrize(
    "bad",
    [
        r"\operatorname{a}",
        r"{a",
        r"a}",
        r"\left( {a \right) }",
        r"\begin{cases} a",
        r"a_{b}_{c}",
        r"\{",
    ],
)
def test_unsound_formulas_are_found(bad: str) -> None:
    assert unsound(bad)


def test_a_second_reader_takes_the_formulas(gallery: dict[str, str | None]) -> None:
    """Line by line by matplotlib, which knows no environments and no operators of one's own."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    reader = mathtext.MathTextParser("path")
    lines = {line for f in formulas(gallery) for line in f.split("\n")[1:-2]}
    read = [line for line in sorted(lines) if "cases" not in line]
    for line in read:
        text = line.removesuffix(r" \\").replace("&", "")
        text = re.sub(r"\\mathop\{(.*?)\}\\limits", r"\1", text)
        text = re.sub(r"\\text\{(.*?)\}", r"\\mathrm{\1}", text)
        text = text.replace(r"\lVert", r"\|").replace(r"\rVert", r"\|").replace("lvert", "vert")
        reader.parse(f"${text.replace('rvert', 'vert')}$")
    assert len(read) > len(PROGRAMS)
