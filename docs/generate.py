"""`make docs`: the pages that follow from tables of the compiler, and the grammar for editors.

`python -m docs.generate` writes what is stale and removes what has no spec any more; with `--check`
it says so instead, and fails. While a spec of the library has an error, nothing is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docs import commands, editor, effects, export_routes, gallery_pages, pages, schemas
from metanorm.diagnostics.render.text import render_text
from metanorm.explain.library import listing_text
from metanorm.frontend import check
from metanorm.syntax.grammar import table_text
from metanorm.workspace import load_library

ROOT = Path(__file__).parents[1]

FILES: Mapping[str, Callable[[], str]] = {
    "docs/operations.md": pages.operations,
    "docs/errors.md": pages.errors,
    "docs/command-line.md": commands.command_line,
    "docs/effects.md": effects.page,
    **schemas.pages(),
    "grammar/norm.tmLanguage.json": editor.text_mate,
    "editors/vscode/syntaxes/norm.tmLanguage.json": editor.text_mate,
    "editors/codemirror/words.mjs": editor.code_mirror,
    "editors/emacs/norm-mode.el": editor.emacs,
    "grammar/metanorm.table.json": table_text,
    "specs/listing.json": listing_text,
}

# Pages written by hand, with parts between `<!-- begin NAME -->` and `<!-- end NAME -->`.
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/export.md": {"routes": export_routes.table},
    "docs/language.md": {"grammar": pages.grammar, "operations": pages.names_of_operations},
}


# Folders with generated files alone.
FOLDERS: Mapping[str, Callable[[], dict[str, str]]] = {"docs/gallery": gallery_pages.gallery}


def generated() -> dict[str, str]:
    """The expected text of every generated file outside of `FOLDERS`."""
    files = {name: build() for name, build in FILES.items()}
    for name, parts in PARTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, build in parts.items():
            start_mark, end_mark = f"<!-- begin {part} -->\n", f"<!-- end {part} -->"
            before, _, rest = text.partition(start_mark)
            _, _, after = rest.partition(end_mark)
            text = f"{before}{start_mark}{build()}{end_mark}{after}"
        files[name] = text
    return files


def folder_files(name: str) -> dict[str, str | None]:
    """The expected text of every file of a generated folder; `None` for a file to remove."""
    existing = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / name).glob("*"))]
    return {
        **dict.fromkeys(existing),
        **{f"{name}/{file}": text for file, text in FOLDERS[name]().items()},
    }


def stale(files: Mapping[str, str | None]) -> list[str]:
    """The names of files that differ from their expected text."""
    return [name for name, text in files.items() if _text_or_none(ROOT / name) != text]


def _text_or_none(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def library_errors() -> str:
    """The errors of the specs of the library, without which pages would count as removed."""
    library = load_library()
    checked = check(library.sources, library.roots)
    return "" if checked.ok else render_text(checked.diagnostics, library.sources)


def main() -> int:
    """Write and remove stale files; with `--check`, only list them."""
    if errors := library_errors():
        sys.stderr.write(errors)
        return 1
    files: dict[str, str | None] = {**generated()}
    for name in FOLDERS:
        files |= folder_files(name)
    names = stale(files)
    for name in names:
        text, path = files[name], ROOT / name
        if "--check" in sys.argv:
            print(f"{name}: {'should not be there' if text is None else 'stale'}")
        elif text is None:
            path.unlink()
            print(f"{name}: removed")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written")
    return bool(names) if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
