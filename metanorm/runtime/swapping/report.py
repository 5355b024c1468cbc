"""The report of `runtime.swap`."""

from __future__ import annotations

from dataclasses import dataclass


class SwapError(ValueError):
    """Some layers cannot be swapped, and none was."""


@dataclass(frozen=True)
class Replaced:
    """A layer that was replaced, with all of its names in the model."""

    names: tuple[str, ...]
    old: str
    new: str
    added: tuple[str, ...]  # parameters and buffers that the layer did not have
    dropped: tuple[str, ...]  # those of the layer that the norm does not have

    def __str__(self) -> str:
        notes = [
            f"{word} {', '.join(names)}"
            for word, names in (("with a new", self.added), ("without", self.dropped))
            if names
        ]
        return " ".join((f"{', '.join(self.names)}: {self.old} -> {self.new}", *notes))


@dataclass(frozen=True)
class Skipped:
    """A layer that stayed, and why."""

    name: str
    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name or 'the model itself'}: {self.layer} {self.reason}"


@dataclass(frozen=True, repr=False)
class Report:
    """What `runtime.swap` did: `replaced` and `skipped`, in the order of the model."""

    replaced: tuple[Replaced, ...]
    skipped: tuple[Skipped, ...]

    def __repr__(self) -> str:
        lines = [f"replaced: {len(self.replaced)}", *(f"  {r}" for r in self.replaced)]
        lines += [f"skipped: {len(self.skipped)}", *(f"  {s}" for s in self.skipped)]
        return "\n".join(lines)
