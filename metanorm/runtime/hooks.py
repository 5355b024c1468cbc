"""Hooks that belong together and are taken off together."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.hooks import RemovableHandle


class Attached:
    """Hooks that have been put on; `remove()`, or the end of a `with`, takes them off.

    `skipped` are the names of what was left alone.
    """

    def __init__(self, handles: Sequence[RemovableHandle], skipped: Sequence[str] = ()) -> None:
        self.handles = tuple(handles)
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self.handles)

    def remove(self) -> None:
        """Take all of them off; a second time does nothing."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
