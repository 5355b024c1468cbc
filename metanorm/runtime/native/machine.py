"""What kernels want to know of the machine."""

from __future__ import annotations

import functools
from pathlib import Path

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL = 32 << 20
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@functools.cache
def last_level_cache() -> int:
    """The bytes of the largest cache, or a usual number where the system does not say."""
    found = []
    for entry in CACHES.glob("index*/size"):
        try:
            text = entry.read_text().strip()
            found.append(int(text.rstrip("KMG")) * UNITS.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(found, default=USUAL)
