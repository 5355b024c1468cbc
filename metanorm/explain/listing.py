"""The list of all norms of the library that ships with the specs.

It says what runs each norm. Computing that takes seconds, so `make docs` writes it into a file. If
the file belongs to other specs or to another version, there is no list.
"""

from __future__ import annotations

import hashlib
import json

from metanorm.resources import library_texts, resource
from metanorm.version import __version__

LISTING = "listing.json"
Rows = list[dict[str, str]]


def shipped_listing() -> Rows | None:
    """A row for each norm: name, file, status, citation, meaning."""
    try:
        shipped = json.loads((resource("specs") / LISTING).read_text(encoding="utf-8"))
        return list(shipped["norms"]) if shipped["made_for"] == library_version() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None  # the file is missing or damaged


def library_version() -> str:
    """The version of metanorm, and a digest of all specs of the library."""
    texts = "\0".join(library_texts().values())
    return f"metanorm {__version__}, specs {hashlib.sha256(texts.encode()).hexdigest()[:16]}"
