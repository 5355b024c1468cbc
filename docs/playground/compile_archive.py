"""Compiles the sources of an archive to the bytecode of the Python that runs this.

The build runs it in the browser's Python, under node, so that no page has to.
"""

from __future__ import annotations

import io
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.util import source_hash


def compiled(archive: bytes) -> bytes:
    """The same archive with `a.pyc` in place of each `a.py`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as sources, zipfile.ZipFile(out, "w") as target:
        for entry in sources.infolist():
            data = sources.read(entry)
            if entry.filename.endswith(".py"):
                code = compile(data, entry.filename, "exec", dont_inherit=True)
                data = bytes(_code_to_hash_pyc(code, source_hash(data), checked=False))
                entry = zipfile.ZipInfo(f"{entry.filename}c", entry.date_time)
            target.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()
