"""Both directions of each variant of a norm: the programs that become kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from metanorm.ir.program import Program
from metanorm.ir.verify import verify
from metanorm.passes.backward import backward
from metanorm.passes.pipeline import BACKWARD_PASSES, FINAL_PASSES, FORWARD_PASSES
from metanorm.passes.variants import variants

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Directions:
    """The programs of one variant.

    `kept` names the last outputs of the forward program, which are inputs of the backward one.
    """

    variant: str
    forward: Program
    backward: Program
    kept: tuple[str, ...]


@dataclass(frozen=True)
class TraceStep:
    """The program of one direction of one variant after a step, such as a pass."""

    step: str
    variant: str
    direction: Direction
    program: Program
    kept: tuple[str, ...] = ()


def trace(program: Program, check: bool = False) -> Iterator[TraceStep]:
    """The steps from an optimised program to those of kernels. With `check`, each is verified.

    Raises `NotDerivable`.
    """
    for step in _trace(program):
        if check:
            verify(step.program)
        yield step


def _trace(program: Program) -> Iterator[TraceStep]:
    for variant, forward in variants(program).items():
        yield TraceStep("variants", variant, "forward", forward)
        for step in FORWARD_PASSES:
            forward = step.run(forward)
            yield TraceStep(step.name, variant, "forward", forward)
        gradient = backward(forward)
        yield TraceStep("backward", variant, "forward", gradient.forward, gradient.kept)
        yield TraceStep("backward", variant, "backward", gradient.program)
        program = gradient.program
        for step in BACKWARD_PASSES:
            program = step.run(program)
            yield TraceStep(step.name, variant, "backward", program)
        forward = gradient.forward
        for step in FINAL_PASSES:
            forward, program = step.run(forward), step.run(program)
            yield TraceStep(step.name, variant, "forward", forward, gradient.kept)
            yield TraceStep(step.name, variant, "backward", program)


@functools.lru_cache(maxsize=2)  # several stages ask for them, one norm at a time
def directions(program: Program, check: bool = False) -> tuple[Directions, ...]:
    """The programs of each variant of an optimised program. Raises `NotDerivable`."""
    last_steps: dict[tuple[str, Direction], TraceStep] = {}
    for step in trace(program, check):
        last_steps[step.variant, step.direction] = step
    return tuple(
        Directions(name, step.program, last_steps[name, "backward"].program, step.kept)
        for (name, direction), step in last_steps.items()
        if direction == "forward"
    )
