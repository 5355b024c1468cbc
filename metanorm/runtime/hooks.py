"""A set of hooks that are removed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.utils.hooks import RemovableHandle


class Attached:
    """Registered hooks; `remove()`, or the end of a `with` statement, removes them.

    `skipped` has the names of parameters without a hook. `forget` is called when they are removed.
    """

    def __init__(
        self,
        handles: Sequence[RemovableHandle],
        skipped: Sequence[str] = (),
        forget: Callable[[], None] | None = None,
    ) -> None:
        self.handles = tuple(handles)
        self.skipped = tuple(skipped)
        self.forget = forget

    def __len__(self) -> int:
        return len(self.handles)

    def remove(self) -> None:
        """Remove all hooks; a second call does nothing."""
        for handle in self.handles:
            handle.remove()
        forget, self.forget = self.forget, None
        if forget is not None:
            forget()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
