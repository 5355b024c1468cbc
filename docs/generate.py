"""`make docs`: the pages that follow from tables of the compiler, and the grammar for editors.

`python -m docs.generate` writes what is stale; with `--check` it says so instead, and fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docs import commands, editor, pages, schemas

ROOT = Path(__file__).parents[1]

FILES: Mapping[str, Callable[[], str]] = {
    "docs/operations.md": pages.operations,
    "docs/errors.md": pages.errors,
    "docs/command-line.md": commands.command_line,
    "docs/schemas/check.json": schemas.check,
    "docs/schemas/explain.json": schemas.explain,
    "docs/schemas/verify.json": schemas.verify,
    "docs/schemas/config.json": schemas.config,
    "docs/schemas/ast.json": schemas.ast,
    "docs/schemas/ir.json": schemas.ir,
    "grammar/norm.tmLanguage.json": editor.text_mate,
}

# Pages written by hand, with parts between `<!-- begin NAME -->` and `<!-- end NAME -->`.
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/language.md": {"grammar": pages.grammar, "operations": pages.names_of_operations},
}


def generated() -> dict[str, str]:
    """Every generated file, as it should be."""
    files = {name: build() for name, build in FILES.items()}
    for name, parts in PARTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, build in parts.items():
            begin, end = f"<!-- begin {part} -->\n", f"<!-- end {part} -->"
            before, _, rest = text.partition(begin)
            _, _, after = rest.partition(end)
            text = f"{before}{begin}{build()}{end}{after}"
        files[name] = text
    return files


def stale() -> list[str]:
    """Files that are not as they should be."""
    found = []
    for name, text in generated().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(name)
    return found


def main() -> int:
    """Write, or with `--check` only look."""
    names = stale()
    for name in names:
        print(f"{name}: {'stale' if '--check' in sys.argv else 'written'}")
    if "--check" in sys.argv:
        return bool(names)
    texts = generated()
    for name in names:
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(texts[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
