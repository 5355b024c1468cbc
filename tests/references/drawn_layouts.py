"""The dimensions that the first input of a drawn norm may have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The dimensions of the first input, and which of its axes can be what."""

    dims: str  # of the first input
    axes: tuple[str, ...]  # into which they are split
    cut: tuple[str, ...] = ()  # of lengths that 4 divides
    fixed: tuple[tuple[str, tuple[str, ...]], ...] = ()  # dimensions of parameters: their axes
    split: str = ""  # a statement
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()  # dimensions that are split

    def of(self, dims: str) -> tuple[str, ...]:
        """The axes of some dimensions, as written."""
        parts = dict(self.parts)
        names = [d.split("=")[0].strip() for d in dims.split(",") if d.strip()]
        return tuple(a for name in names for a in parts.get(name, (name,)))


C = (("C", ("C",)),)
LAYOUTS = (
    Layout("N, C = num_c, *S", ("N", "C", "*S"), ("N", "C"), C),
    Layout("N, C = num_c, *S", ("N", "C", "*S"), ("C",), C),
    Layout("N, C = num_c, H, W", ("N", "C", "H", "W"), ("C", "H"), C),
    Layout("N, C = num_c", ("N", "C"), ("C",), C),
    Layout("N, T, C = num_c", ("N", "T", "C"), ("T", "C"), C),
    Layout("N, *S, C = num_c", ("N", "*S", "C"), ("C",), C),
    Layout("*B, C = num_c", ("*B", "C"), ("C",), C),
    Layout("V, C = num_c", ("V", "C"), ("C",), C),
    Layout("V, C = num_c", ("V", "C"), ("C",), C),
    Layout("N, T", ("N", "T"), ("T",)),
    Layout(
        "N, C = num_c, *S", ("N", "G", "D", "*S"), ("D",),
        (("C", ("G", "D")), ("G", ("G",)), ("D", ("D",))),
        "  axis   C = (G = 3, D)\n", (("C", ("G", "D")),),
    ),
)  # fmt: skip
