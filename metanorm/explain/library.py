"""The list of all norms of the library, with what runs each of them, made by compiling them."""

from __future__ import annotations

import gc
import json

from metanorm import frontend
from metanorm.explain.kernels import execution_status
from metanorm.explain.listing import Rows, library_version
from metanorm.explain.origin import citation
from metanorm.passes.pipeline import optimize
from metanorm.resources import LIBRARY
from metanorm.workspace import load_library


def compiled_listing() -> Rows:
    """A row for each norm: name, file, status, citation, meaning."""
    library = load_library()
    was_enabled = gc.isenabled()
    gc.disable()  # saves time: nearly all objects live to the end
    try:
        checked = frontend.check(library.sources, library.roots)
        return [
            {
                "name": norm.program.name,
                "file": root.removeprefix(LIBRARY),
                "status": execution_status(optimize(norm.program)),
                "citation": citation(norm.program.doc),
                "meaning": " ".join(norm.program.doc),
            }
            for root in library.roots
            for norm in checked.norms[root]
        ]
    finally:
        if was_enabled:
            gc.enable()


def listing_text() -> str:
    """The text of the file with the list that ships, with a norm on each line."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in compiled_listing())
    return f'{{"made_for": "{library_version()}",\n"norms": [\n{rows}\n]}}\n'
