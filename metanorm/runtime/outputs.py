"""Norms with several outputs, which come as a named tuple."""

from __future__ import annotations

from torch.utils import _pytree


def register_output(kind: type[tuple[object, ...]]) -> None:
    """Let `torch.export.save` and `load` know a named tuple, by the module that defines it."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind not in _pytree.SUPPORTED_NODES:
        _pytree._register_namedtuple(kind, serialized_type_name=name)
