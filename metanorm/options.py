"""The options of the compiler, which the command line, `[tool.metanorm]` and the API all set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `torch`: modules alone; `native`: also kernels in C; `triton`: also kernels in C and in Triton.
Target = Literal["torch", "native", "triton"]
DEFAULT_TARGET: Target = "native"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that change generated code. They are part of its header."""

    target: Target = DEFAULT_TARGET
    standalone: bool = False  # the package contains the runtime
    hub: bool = False  # layers for the `kernels` package, which contains the runtime too
    # Names of a spec, as `eps` or `RMSNorm.eps`, with those that the layer has in their place.
    rename: tuple[tuple[str, str], ...] = ()
    verify_passes: bool = False

    @property
    def has_runtime(self) -> bool:
        """Whether the package contains the runtime."""
        return self.standalone or self.hub

    def fingerprint(self) -> str:
        """The options that matter for generated code, as text."""
        words = [f"target={self.target}"]
        words += ["standalone"] if self.standalone else []
        words += ["hub", *(f"{old}={new}" for old, new in self.rename)] if self.hub else []
        return " ".join(words)
