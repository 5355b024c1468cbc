"""What is said above a norm: the norms that compute the same, and the picture of its pools."""

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

TIMEOUT = 60  # seconds that a picture may take

_fingerprint_lock = Lock()


def equal_norms(norm: CheckedNorm) -> list[str]:
    """The norms of torch and of the library that compute the same, other than itself."""
    optimised = optimize(norm.program)
    layer = matching_layer(norm.program, optimised)
    known = _library_norms().get(fingerprint(optimised), "")
    named = [f"torch.{layer.layer}"] if layer else []
    return named + ([known] if known not in ("", norm.program.name) else [])


def _library_norms() -> dict[str, str]:
    with _fingerprint_lock:
        return _fingerprints()


@lru_cache(maxsize=1)
def _fingerprints() -> dict[str, str]:
    return norms_by_fingerprint(load_library())


class CannotShow(Exception):
    """Why there is no picture, in the words of `metanorm show`."""


def write_picture(view: View, norm: str) -> Path:
    """Write what `metanorm show` draws of a norm, and say where. Raises `CannotShow`.

    It runs in a process of its own: torch, which it needs, stays out of this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="metanorm-"))
    path = folder / f"{norm}.svg"
    beside = os.path.dirname(view.name)
    command = [sys.executable, "-m", "metanorm", "show", "-", "--norm", norm, "-o", str(path)]
    text = view.findings.workspace.texts.get(view.name, "")
    try:
        done = subprocess.run(
            command,
            input=text.encode(errors="replace"),
            cwd=beside if os.path.isdir(beside) else None,
            capture_output=True,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotShow(str(error)) from error
    if done.returncode or not path.exists():
        said = done.stderr.decode(errors="replace").strip().split("\n")
        raise CannotShow(said[0].removeprefix("metanorm: ") or "`metanorm show` failed")
    return path
