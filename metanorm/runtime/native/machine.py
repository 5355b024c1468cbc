"""Properties of the machine on which kernels depend."""

from __future__ import annotations

import functools
from pathlib import Path

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_BYTES = 32 << 20
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@functools.cache
def last_level_cache() -> int:
    """The bytes of the largest cache, or a common size if the system does not tell."""
    sizes = []
    for entry in CACHES.glob("index*/size"):
        try:
            text = entry.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) * UNITS.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(sizes, default=DEFAULT_BYTES)
