"""The list of all norms of the library, with what runs each of them.

Computing the list takes seconds, so `make docs` writes it into a file that ships with the specs. If
that file belongs to other specs or to another version, the norms are compiled instead.
"""

from __future__ import annotations

import gc
import hashlib
import json

from metanorm import frontend
from metanorm.explain.kernels import execution_status
from metanorm.explain.origin import citation
from metanorm.passes.pipeline import optimize
from metanorm.resources import resource
from metanorm.version import __version__
from metanorm.workspace import Workspace, load_library

LISTING = "listing.json"
Rows = list[dict[str, str]]


def listing() -> Rows:
    """A row for each norm: name, file, status, citation, meaning."""
    library = load_library()
    try:
        shipped = json.loads((resource("specs") / LISTING).read_text(encoding="utf-8"))
        if shipped["made_for"] == _library_version(library):
            return list(shipped["norms"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # the file is missing or damaged
    return compiled_listing(library)


def compiled_listing(library: Workspace) -> Rows:
    """The same rows, computed from the norms."""
    was_enabled = gc.isenabled()
    gc.disable()  # saves time: nearly all objects live to the end
    try:
        checked = frontend.check(library.sources, library.roots)
        return [
            {
                "name": norm.program.name,
                "file": root.removeprefix(frontend.LIBRARY),
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
    """The text of the file that `listing` reads, with a norm on each line."""
    library = load_library()
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in compiled_listing(library))
    return f'{{"made_for": "{_library_version(library)}",\n"norms": [\n{rows}\n]}}\n'


def _library_version(library: Workspace) -> str:
    texts = "\0".join(library.sources[root].text for root in library.roots)
    return f"metanorm {__version__}, specs {hashlib.sha256(texts.encode()).hexdigest()[:16]}"
