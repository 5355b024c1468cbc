"""metanorm: a compiler for normalization layers.

`load` and `loads` compile specs from Python; everything else is the command `metanorm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metanorm.version import __version__

if TYPE_CHECKING:
    from metanorm.api import SpecError, load, loads

__all__ = ["SpecError", "__version__", "load", "loads"]


def __getattr__(name: str) -> Any:
    """Import the compiler when it is first asked for: generated modules do without it."""
    if name in __all__:
        from metanorm import api

        return getattr(api, name)
    if name in ("load_ipython_extension", "unload_ipython_extension"):
        from metanorm import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'metanorm' has no attribute {name!r}")
