"""Packs what the browser runs: the compiler, and lark, which it parses with.

`python -m docs.playground.pack SOURCES.zip SPECS.json`. The archive holds sources, the second file
the specs of the library for the menu.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import lark

from metanorm.resources import LIBRARY, PACKAGE, resource
from metanorm.workspace import load_library

# What runs modules, and what has a terminal: the page has neither.
LEFT_OUT = frozenset(  # by their paths within the package
    "bench breaking cli loaded oracle runtime stages verify "
    "api.py compile_cache.py compile_jobs.py display.py import_hook.py notebook.py "
    "pygments_lexer.py __main__.py lsp/positions.py lsp/server.py lsp/spec_server.py".split()
)
DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is built


def packed() -> Iterator[tuple[str, Path]]:
    """The files by their names in the archive."""
    yield "answers.py", Path(__file__).with_name("answers.py")
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        if LEFT_OUT.isdisjoint((inside.parts[0], inside.as_posix())):
            yield f"metanorm/{inside.as_posix()}", path
    for folder, ending in (("grammar", "*"), ("specs", "*.norm")):
        for path in resource(folder).glob(ending):
            yield f"metanorm/{folder}/{path.name}", path
    lark_folder = Path(lark.__file__).parent
    for path in lark_folder.rglob("*"):
        inside = path.relative_to(lark_folder)
        if path.suffix in (".py", ".lark") and not inside.parts[0].startswith("__pyinstaller"):
            yield f"lark/{inside.as_posix()}", path


def write_archive(path: Path) -> None:
    """Write the archive, its files in order of their names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(packed()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, source.read_bytes())


def write_specs(path: Path) -> None:
    """Write the specs of the library, by file name."""
    library = load_library()
    texts = {name.removeprefix(LIBRARY): library.sources[name].text for name in library.roots}
    path.write_text(json.dumps(texts), encoding="utf-8")


if __name__ == "__main__":
    write_archive(Path(sys.argv[1]))
    write_specs(Path(sys.argv[2]))
