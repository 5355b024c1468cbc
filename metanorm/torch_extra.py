"""What to say where torch is missing: the compiler does without, what runs modules does not."""

from __future__ import annotations

INSTALL_TORCH = "pip install 'metanorm[torch]'"


def import_failure(error: ImportError) -> str:
    """Why something cannot be imported, and what to do if it is for torch."""
    if (error.name or "").partition(".")[0] == "torch":
        return f"torch is not installed: {INSTALL_TORCH}"
    return str(error)
