"""Lays out what Sphinx reads: copies of the pages and pictures, with menus and reference pages."""

from __future__ import annotations

import shutil
from pathlib import Path

from docs.site import pages, reference

PICTURES = (".svg", ".png")
TO_PLAYGROUND = '\n\n<a href="playground/index.html">Open the playground.</a>\n\n'


def write_source(folder: Path, playground: bool) -> None:
    """Write everything into a folder anew. `playground`: the site has it at `playground/`."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = {
        f"{page}.md": path.read_text(encoding="utf-8") + pages.menus(page)
        for page, path in pages.origins().items()
    }
    if playground:  # its page begins with what leads there
        texts["playground.md"] = texts["playground.md"].replace("\n\n", TO_PLAYGROUND, 1)
    written = (reference.metanorm_page(), reference.runtime_page())
    texts |= {f"{page}.rst": text for page, text in zip(pages.REFERENCE, written)}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for picture in pages.files_below_docs(PICTURES):
        copy = folder / picture.relative_to(pages.DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, copy)
