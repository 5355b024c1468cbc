"""What a user can choose. Flags of the command line, `[tool.metanorm]` and the API all end here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Modules of plain torch; with kernels in C beside them; with kernels in Triton, too.
Target = Literal["torch", "native", "triton"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Choices that change generated code. They are part of its header."""

    target: Target = "native"
    standalone: bool = False  # the package has the runtime inside
    verify_passes: bool = False

    def fingerprint(self) -> str:
        """The options that matter for generated code, as text."""
        return f"target={self.target}{' standalone' if self.standalone else ''}"
