"""Records the kernel launches of a call, and replays them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from metanorm.runtime.backends import through_python
from metanorm.runtime.native.calls import PreparedKernel
from metanorm.runtime.native.plan_cache import NativePlan


@dataclass(frozen=True)
class Launch:
    """A kernel, its packed arguments, and the tensors that these point into."""

    kernel: Callable[[bytes], int]
    packed: bytes
    tensors: tuple[Any, ...]


@contextmanager
def record_launches() -> Iterator[list[Launch]]:
    """Record all launches inside the block. Calls take the path through Python for that."""
    launches: list[Launch] = []
    launch = NativePlan.launch

    def recording(
        self: NativePlan, prepared: PreparedKernel, operands: Sequence[Tensor | None],
        momenta: Sequence[float], results: Sequence[Tensor], saved: Tensor | None,
    ) -> None:  # fmt: skip
        kernel = prepared.function

        def record(packed: bytes) -> int:
            tensors = (tuple(operands), tuple(results), saved, prepared)
            launches.append(Launch(kernel, packed, tensors))
            return kernel(packed)

        prepared.function = record
        try:
            launch(self, prepared, operands, momenta, results, saved)
        finally:
            prepared.function = kernel

    with through_python(), patch.object(NativePlan, "launch", recording):
        yield launches


def replay(launches: Sequence[Launch]) -> Callable[[], object]:
    """A call that replays recorded launches in order, on the memory that they keep alive."""

    def run() -> None:
        for launch in launches:
            launch.kernel(launch.packed)

    return run
