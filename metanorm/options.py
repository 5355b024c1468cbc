"""The options of the compiler, which the command line, `[tool.metanorm]` and the API all set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `torch`: modules alone; `native`: also kernels in C; `triton`: also kernels in C and in Triton.
Target = Literal["torch", "native", "triton"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that change generated code. They are part of its header."""

    target: Target = "native"
    standalone: bool = False  # the package contains the runtime
    verify_passes: bool = False

    def fingerprint(self) -> str:
        """The options that matter for generated code, as text."""
        return f"target={self.target}{' standalone' if self.standalone else ''}"
