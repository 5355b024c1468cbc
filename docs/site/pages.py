"""The pages of the site: the file that each is made of, and the menu they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

INDEX = "index"
GALLERY = "gallery/index"

# Pages that lie beside `docs/`.
OUTSIDE: Mapping[str, str] = {
    INDEX: "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
}

# Pages that `reference.py` writes.
REFERENCE = ("reference/metanorm", "reference/runtime")

MENU: Mapping[str, tuple[str, ...]] = {
    "First steps": ("tutorial", "daily", "playground", "editors", "notebook", "demo/index"),
    "The language": ("language", "operations", "errors", "command-line"),
    "Norms in use": ("models", "placement", "numerics", "export", "processes", "performance"),
    "The library": (GALLERY, "effects", "catalogue"),
    "Reference": (*REFERENCE, "glossary"),
    "The compiler": ("how-it-works", "extending", "tests", "design-notes"),
    "The project": ("changelog", "contributing", "security"),
}


def origins() -> dict[str, Path]:
    """The file that each page is made of, by the name of the page."""
    inside = {_page_name(path.relative_to(DOCS)): path for path in files_below_docs((".md",))}
    return {**{page: ROOT / name for page, name in OUTSIDE.items()}, **inside}


def files_below_docs(endings: tuple[str, ...]) -> list[Path]:
    """The files of `docs/` with one of these endings, without what npm has put there."""
    files = [path for path in sorted(DOCS.rglob("*")) if path.suffix in endings]
    return [path for path in files if "node_modules" not in path.parts]


def _page_name(path: Path) -> str:
    """`gallery/index` for `gallery/README.md`, which a code host shows for the folder."""
    return path.with_name(INDEX if path.stem == "README" else path.stem).as_posix()


def menus(page: str) -> str:
    """The menus that a page ends with, as directives of MyST; no reader sees them in the text."""
    if page == INDEX:
        return "".join(_menu(caption, pages) for caption, pages in MENU.items())
    if page == GALLERY:
        folder = GALLERY.removesuffix(INDEX)
        norms = [name for name in origins() if name.startswith(folder) and name != GALLERY]
        return _menu("", [name.removeprefix(folder) for name in norms])
    return ""


def _menu(caption: str, pages: tuple[str, ...] | list[str]) -> str:
    options = ":hidden:\n" + (f":caption: {caption}\n" if caption else "")
    return f"\n```{{toctree}}\n{options}\n" + "".join(f"{page}\n" for page in pages) + "```\n"
