"""What a user can choose. Flags of the command line, `[tool.metanorm]` and the API all end here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Choices that change generated code. They are part of its header."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    target: str = "torch"
    verify_passes: bool = False

    def fingerprint(self) -> str:
        """The options that matter for generated code, as text."""
        return f"target={self.target}"
