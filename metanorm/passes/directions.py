"""Both directions of every arm of a norm: the programs that kernels are made of."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from metanorm.ir.nodes import Program
from metanorm.ir.verify import verify
from metanorm.passes.arms import arms
from metanorm.passes.backward import backward
from metanorm.passes.pipeline import BACKWARD, FORWARD, run


@dataclass(frozen=True)
class Directions:
    """The programs of one arm; `kept` are the last outputs of the forward one, which the backward
    one takes as inputs."""

    arm: str
    forward: Program
    backward: Program
    kept: tuple[str, ...]


@functools.lru_cache(maxsize=2)  # each target with kernels asks for them, norm by norm
def directions(program: Program, check: bool = False) -> tuple[Directions, ...]:
    """The programs of each arm of an optimised program. Raises `NotDerivable`."""
    return tuple(_directions(program, check))


def _directions(program: Program, check: bool) -> Iterator[Directions]:
    for name, arm in arms(program).items():
        gradient = backward(run(FORWARD, arm, check))
        if check:
            verify(gradient.forward)
        yield Directions(
            name, gradient.forward, run(BACKWARD, gradient.program, check), gradient.kept
        )
