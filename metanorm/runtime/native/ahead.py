"""Builds kernels ahead of time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from metanorm.runtime.arguments import HALF
from metanorm.runtime.kernels.table import parse_tables
from metanorm.runtime.native.build import build
from metanorm.runtime.native.calls import PRECISIONS, macros

ROUNDING_DTYPES = (*PRECISIONS, *HALF)


def build_all(sources: Sequence[str]) -> int:
    """Build every kernel of these C files, in both precisions; returns how many there are.

    Kernels that round to the dtypes of tensors are built for calls whose tensors all have the same
    dtype. Raises `CannotBuild` at the first that cannot be built.
    """
    jobs = [(source, build_macros) for source in sources for build_macros in builds(source)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return len(list(pool.map(lambda job: build(*job), jobs)))


def builds(source: str) -> Iterator[dict[str, str]]:
    """The macros of each build of a source."""
    for table in parse_tables(source).values():
        for kernels in table.variants.values():
            for entry in kernels.values():
                for section in entry.sections.values():
                    for dtype in ROUNDING_DTYPES if entry.dtypes else PRECISIONS:
                        real = dtype if dtype in PRECISIONS else torch.float32
                        yield macros(section, real, dict.fromkeys(entry.dtypes, dtype))
