"""Names in the styles of Python."""

from __future__ import annotations


def snake_case(name: str) -> str:
    """`GroupNorm` as `group_norm`, `EvoNormS0` as `evo_norm_s0`, `RMSNorm` as `rms_norm`."""
    out = ""
    for i, character in enumerate(name):
        before = name[i - 1] if i else "_"
        after = name[i + 1] if i + 1 < len(name) else ""
        starts_word = before.islower() or before.isdigit() or (before.isupper() and after.islower())
        out += "_" if character.isupper() and starts_word else ""
        out += character.lower()
    return out
