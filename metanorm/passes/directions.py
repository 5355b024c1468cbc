"""Both directions of every variant of a norm: the programs that kernels are made of."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from metanorm.ir.nodes import Program
from metanorm.ir.verify import verify
from metanorm.passes.backward import backward
from metanorm.passes.pipeline import BACKWARD_PASSES, FINAL_PASSES, FORWARD_PASSES
from metanorm.passes.variants import variants

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Directions:
    """The programs of one variant; `kept` are the last outputs of the forward one, which the
    backward one takes as inputs."""

    variant: str
    forward: Program
    backward: Program
    kept: tuple[str, ...]


@dataclass(frozen=True)
class TraceStep:
    """The program of one direction of one variant after a step, such as a pass; `kept` as above."""

    step: str
    variant: str
    direction: Direction
    program: Program
    kept: tuple[str, ...] = ()


def trace(program: Program, check: bool = False) -> Iterator[TraceStep]:
    """What becomes of an optimised program on its way to kernels, step by step; with `check`,
    verified after each. Raises `NotDerivable`."""
    for found in _trace(program):
        if check:
            verify(found.program)
        yield found


def _trace(program: Program) -> Iterator[TraceStep]:
    for name, forward in variants(program).items():
        yield TraceStep("variants", name, "forward", forward)
        for step in FORWARD_PASSES:
            forward = step.run(forward)
            yield TraceStep(step.name, name, "forward", forward)
        gradient = backward(forward)
        yield TraceStep("backward", name, "forward", gradient.forward, gradient.kept)
        yield TraceStep("backward", name, "backward", gradient.program)
        program = gradient.program
        for step in BACKWARD_PASSES:
            program = step.run(program)
            yield TraceStep(step.name, name, "backward", program)
        forward = gradient.forward
        for step in FINAL_PASSES:
            forward, program = step.run(forward), step.run(program)
            yield TraceStep(step.name, name, "forward", forward, gradient.kept)
            yield TraceStep(step.name, name, "backward", program)


@functools.lru_cache(maxsize=2)  # several stages ask for them, norm by norm
def directions(program: Program, check: bool = False) -> tuple[Directions, ...]:
    """The programs of each variant of an optimised program. Raises `NotDerivable`."""
    last: dict[tuple[str, Direction], TraceStep] = {}
    for found in trace(program, check):
        last[found.variant, found.direction] = found
    return tuple(
        Directions(name, after.program, last[name, "backward"].program, after.kept)
        for (name, direction), after in last.items()
        if direction == "forward"
    )
