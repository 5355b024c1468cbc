"""Building kernels before anyone calls them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from metanorm.runtime.arguments import HALF
from metanorm.runtime.kernels.table import tables
from metanorm.runtime.native.build import build
from metanorm.runtime.native.calls import PRECISIONS, defines

ROUNDED_TO = (*PRECISIONS, *HALF)


def build_all(sources: Sequence[str]) -> int:
    """Build every kernel of these C files, in both precisions; returns how many there are.

    Kernels that round to the dtypes of tensors are built for calls whose tensors all have the same
    dtype. Raises `CannotBuild` at the first that cannot be built.
    """
    jobs = [(source, defines) for source in sources for defines in _variants(source)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return len(list(pool.map(lambda job: build(*job), jobs)))


def _variants(source: str) -> Iterator[dict[str, str]]:
    for table in tables(source).values():
        for ways in table.arms.values():
            for entry in ways.values():
                for section in entry.sections.values():
                    for dtype in ROUNDED_TO if entry.dtypes else PRECISIONS:
                        real = dtype if dtype in PRECISIONS else torch.float32
                        yield defines(section, real, dict.fromkeys(entry.dtypes, dtype))
