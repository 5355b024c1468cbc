"""The passes, in order, each with the reason why it stands where it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from metanorm.ir.program import Program
from metanorm.ir.verify import verify
from metanorm.passes.buffers import buffers
from metanorm.passes.decide import decide
from metanorm.passes.derivable import derivable
from metanorm.passes.diagonals import diagonals
from metanorm.passes.factors import factors
from metanorm.passes.fold import fold
from metanorm.passes.lookups import lookups
from metanorm.passes.loops import loops
from metanorm.passes.matrices import matrices
from metanorm.passes.moments import moments
from metanorm.passes.neighbours import neighbours
from metanorm.passes.positions import positions
from metanorm.passes.primitives import primitives
from metanorm.passes.products import products
from metanorm.passes.reductions import reductions
from metanorm.passes.repeated import repeated
from metanorm.passes.runs import runs
from metanorm.passes.scans import scans
from metanorm.passes.share import share
from metanorm.passes.simplify import simplify
from metanorm.passes.split import split
from metanorm.passes.spread import spread
from metanorm.passes.sums import sums
from metanorm.passes.unbiased import unbiased


@dataclass(frozen=True)
class Pass:
    """A pass, and the reason for its place in the list."""

    name: str
    run: Callable[[Program], Program]
    why_here: str


@dataclass(frozen=True)
class Step:
    """What makes several programs of one, or needs more than a program, and why it stands here."""

    name: str
    why_here: str


PIPELINE: tuple[Pass, ...] = (
    Pass("simplify", simplify, "equal values get one name, which the later passes compare by"),
    Pass("decide", decide, "what one mode alone needs is found by name, before names multiply"),
    Pass(
        "split", split, "blocks become axes before anyone asks along which axes a value is constant"
    ),
    Pass("unbiased", unbiased, "targets divide variances by n; the others are made of those"),
    Pass("moments", moments, "statistics of derived values become statistics of inputs"),
    Pass(
        "repeated", repeated, "what is larger than an input only by copies is narrow from here on"
    ),
    Pass("loops", loops, "values have the axes that they keep"),
    Pass(
        "products",
        products,
        "covariances about several centres come from one, whose means are shared next",
    ),
    Pass("share", share, "only now it is known which moments of each input are wanted"),
    Pass("diagonals", diagonals, "variances of what has a covariance are known by now"),
    Pass("fold", fold, "with the statistics narrow, all that is left of the wide work is maps"),
    Pass("factors", factors, "a map of a product is one operation by now, with all of its scales"),
)

# From an optimised program to kernels: forward, then what its derivative adds, then both.
FORWARD_PASSES: tuple[Pass, ...] = (
    Pass("runs", runs, "loops go over whole axes, for which whatever comes later is made"),
    Pass(
        "spread",
        spread,
        "an output of groups is repeated for each position, and its gradient is summed",
    ),
    Pass("lookups", lookups, "a value of groups has a gradient, and a place in loops"),
    Pass(
        "neighbours",
        neighbours,
        "links are weights that can be followed both ways, a pool of neighbours is none",
    ),
    Pass("matrices", matrices, "a weight can be transposed and derived, a pool by a matrix cannot"),
    Pass("derivable", derivable, "what has no derivative of its own is derived as its formula is"),
    Pass(
        "reductions", reductions, "fewer kinds of statistics are left to derive and to accumulate"
    ),
    Pass(
        "positions",
        positions,
        "a sum of one position is left where it is read, before sums are made smaller",
    ),
    Pass("scans", scans, "sums and moments are all that there is left to scan"),
    Pass("buffers", buffers, "a copy for a buffer is not taken apart again"),
)
BACKWARD_PASSES: tuple[Pass, ...] = (
    Pass("reductions", reductions, "derivatives bring counts of their own"),
    Pass("scans", scans, "which are counts of scans, too"),
    Pass("sums", sums, "sums of products are what derivatives consist of"),
)
FINAL_PASSES: tuple[Pass, ...] = (
    Pass("primitives", primitives, "derivatives know functions whose formulas kernels print"),
)
KERNEL_STEPS: tuple[Pass | Step, ...] = (
    Step("variants", "a kernel is made for one way through the modes"),
    *FORWARD_PASSES,
    Step("backward", "by now the forward program is as small as it gets"),
    *BACKWARD_PASSES,
    *FINAL_PASSES,
    Step("columns", "only for layouts in which the parts of a split axis lie together"),
)
# From an optimised program to one for axes that are divided among processes.
PROCESS_STEPS: tuple[Step, ...] = (
    Step(
        "exchange", "statistics are as few as they get, and nothing is moved across a message later"
    ),
)


def reasons() -> dict[str, str]:
    """Every pass and step by its name, in order, and why its first place is where it is."""
    by_name: dict[str, str] = {}
    for step in (*PIPELINE, *KERNEL_STEPS, *PROCESS_STEPS):
        by_name.setdefault(step.name, step.why_here)
    return by_name


def optimize(program: Program, check: bool = False) -> Program:
    """The program after all passes; with `check`, verified after each."""
    return list(stages(program, check))[-1][1]


def stages(program: Program, check: bool = False) -> Iterator[tuple[str, Program]]:
    """The program after each pass."""
    for step in PIPELINE:
        program = _run(step, program)
        if check:
            verify(program)
        yield step.name, program


def _run(step: Pass, program: Program) -> Program:
    """The program after a pass, which its stated backward pass goes through as well."""
    backward = program.backward
    if backward is not None:
        backward = replace(backward, program=step.run(backward.program))
        program = replace(program, backward=backward)
    return step.run(program)
