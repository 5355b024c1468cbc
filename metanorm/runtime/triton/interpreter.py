"""Triton without a GPU: its interpreter runs kernels on tensors of the CPU, for tests."""

from __future__ import annotations

import functools
import os
from typing import Any


def is_interpreting() -> bool:
    """Whether kernels are interpreted: `TRITON_INTERPRET=1` when the process began."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@functools.lru_cache(maxsize=1)
def patch_interpreter() -> None:
    """Let bounds of loops be tensors of one element.

    Triton 3.6 converts them by `int`, which NumPy 2.4 refuses for arrays of one dimension.
    """
    from triton.runtime import interpreter

    patched = interpreter._patch_lang_tensor

    def with_index(tensor: Any, scope: Any) -> None:
        patched(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = with_index
