"""The message for a missing torch. Compiling needs no torch, but running modules does."""

from __future__ import annotations

INSTALL_TORCH = "pip install 'metanorm[torch]'"


def import_failure(error: ImportError) -> str:
    """Why an import failed; if torch is missing, how to install it."""
    if (error.name or "").partition(".")[0] == "torch":
        return f"torch is not installed: {INSTALL_TORCH}"
    return str(error)
