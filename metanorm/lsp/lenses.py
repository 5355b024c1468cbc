"""Code lenses above a norm: equal norms, and the picture of its pools."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from threading import Lock

from metanorm.explain.fingerprints import norms_by_fingerprint
from metanorm.frontend import CheckedNorm
from metanorm.ir.fingerprint import fingerprint
from metanorm.lsp.project import View
from metanorm.passes.pipeline import optimize
from metanorm.torch_layers import matching_layer
from metanorm.workspace import load_library

TIMEOUT = 60  # seconds for a picture

_fingerprint_lock = Lock()


def equal_norms(norm: CheckedNorm) -> list[str]:
    """The norms of torch and of the library that compute the same, other than itself."""
    optimised = optimize(norm.program)
    layer = matching_layer(norm.program, optimised)
    library_norm = _library_norms().get(fingerprint(optimised), "")
    names = [f"torch.{layer.layer}"] if layer else []
    return names + ([library_norm] if library_norm not in ("", norm.program.name) else [])


def _library_norms() -> dict[str, str]:
    with _fingerprint_lock:
        return _fingerprints()


@lru_cache(maxsize=1)
def _fingerprints() -> dict[str, str]:
    return norms_by_fingerprint(load_library())


class CannotShow(Exception):
    """There is no picture; the message is that of `metanorm show`."""


def write_picture(view: View, norm: str) -> Path:
    """Write the picture of a norm by `metanorm show`. Returns its path. Raises `CannotShow`.

    The command runs in a process of its own, which can be stopped.
    """
    folder = Path(tempfile.mkdtemp(prefix="metanorm-"))
    path = folder / f"{norm}.svg"
    spec_folder = os.path.dirname(view.name)
    command = [sys.executable, "-m", "metanorm", "show", "-", "--norm", norm, "-o", str(path)]
    text = view.findings.workspace.texts.get(view.name, "")
    try:
        process = subprocess.run(
            command,
            input=text.encode(errors="replace"),
            cwd=spec_folder if os.path.isdir(spec_folder) else None,
            capture_output=True,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotShow(str(error)) from error
    if process.returncode or not path.exists():
        messages = process.stderr.decode(errors="replace").strip().split("\n")
        raise CannotShow(messages[0].removeprefix("metanorm: ") or "`metanorm show` failed")
    return path
