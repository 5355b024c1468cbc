"""A copy of the runtime inside a generated package, which then needs torch alone.

`_runtime` copies `metanorm.runtime` and the modules that it uses, with relative imports.
"""

from __future__ import annotations

import re
from pathlib import Path

from metanorm.resources import PACKAGE
from metanorm.targets.header import with_header
from metanorm.targets.package import VENDORED

COMMENTS = {".py": "#", ".c": "//", ".h": "//"}
RUNTIME = PACKAGE / "runtime"
SHARED_FILES = (PACKAGE / "user_cache.py",)  # by the compiler and the runtime
ORIGIN = "the runtime of metanorm"
IMPORT = re.compile(r"^(\s*)from metanorm(?:\.runtime)?((?:\.\w+)*) import ", re.MULTILINE)


def runtime_files(options: str) -> dict[str, str]:
    """The files of the runtime by their names in the package; `options` are as in its modules."""
    files = {path.relative_to(RUNTIME): path for path in RUNTIME.rglob("*")}
    files |= {Path(path.name): path for path in SHARED_FILES}
    copies = {}
    for name, path in sorted(files.items()):
        if path.suffix not in COMMENTS:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = _relative_imports(text, len(name.parts))
        mark = COMMENTS[path.suffix]
        copies[f"{VENDORED}/{name.as_posix()}"] = with_header(text, ORIGIN, text, options, mark)
    return copies


def _relative_imports(text: str, depth: int) -> str:
    """The text of a module so many folders below the package, with imports relative to it."""
    return IMPORT.sub(lambda match: f"{match[1]}from {'.' * depth}{match[2][1:]} import ", text)
