"""The message for a missing torch. Compiling needs no torch, but running modules does."""

from __future__ import annotations

INSTALL_TORCH = "pip install 'metanorm[torch]'"


def torch_is_missing(error: ImportError) -> bool:
    """Whether an import failed for want of torch."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "torch"


def import_failure(error: ImportError) -> str:
    """Why an import failed; if torch is missing, how to install it."""
    if torch_is_missing(error):
        return f"torch is not installed: {INSTALL_TORCH}"
    return str(error)
