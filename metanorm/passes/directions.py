"""Both directions of every arm of a norm: the programs that kernels are made of."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import Cast, Op, Program
from metanorm.ir.operands import every_let
from metanorm.ir.verify import verify
from metanorm.passes.arms import arms
from metanorm.passes.backward import NotDerivable, backward
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


# Operations of which no kernels are made yet.
WITHOUT_KERNELS: Mapping[type[Op], str] = {
    Cast: "a value that is rounded on the way",
}


def demand_kernel_forms(program: Program) -> None:
    """Raise `NotDerivable` for a program with an operation that no kernels are made of."""
    for let in every_let(program.body):
        if type(let.op) in WITHOUT_KERNELS:
            raise NotDerivable(WITHOUT_KERNELS[type(let.op)])


def _directions(program: Program, check: bool) -> Iterator[Directions]:
    demand_kernel_forms(program)
    for name, arm in arms(program).items():
        gradient = backward(run(FORWARD, arm, check))
        if check:
            verify(gradient.forward)
        yield Directions(
            name, gradient.forward, run(BACKWARD, gradient.program, check), gradient.kept
        )
