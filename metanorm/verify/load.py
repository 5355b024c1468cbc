"""Generated text to a live Python module."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def load_module(text: str, name: str) -> ModuleType:
    """Import the text of a generated module under a name of its own.

    The file stays until the process ends, so that tracebacks and `inspect` can show it.
    """
    folder = Path(tempfile.mkdtemp(prefix="metanorm-"))
    _FOLDERS.append(folder)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    unique = f"metanorm_generated_{len(_FOLDERS)}_{name}"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    spec.loader.exec_module(module)
    return module


_FOLDERS: list[Path] = []


def remove_folders() -> None:
    """Delete the files of all modules loaded so far."""
    import shutil

    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop(), ignore_errors=True)
