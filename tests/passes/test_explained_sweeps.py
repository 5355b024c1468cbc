"""What `metanorm explain` prints of sweeps: nothing that a formula depends on may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import PROGRAMS
from programs import lowered

from metanorm.explain.formulas import INLINE, SweepSteps, steps_of_sweeps
from metanorm.ir.nodes import Param, Pool, Recurrence
from metanorm.ir.program import Program
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import optimize
from metanorm.plan.sweeps import Plan, plan_sweeps

FORWARD = {
    "x[N, T]\n  output x - mean(x over T: window(3))": """
        computes a = sum(x over T: 1 before to 1 after)
        writes output = x - a / b""",
    "x[N, T]\n  output x - sum(x over T: causal)": """
        computes a = sum(x over T: all before to 0 after)
        writes output = x - a""",
    "x[N, T]\n  let m = scan(x over T, decay = 0.9, start = 0)\n  output x / (1 + m)": """
        computes m = scan(x over T, decay = 0.9, start = 0)
        writes output = x / (m + 1)""",
    "x[N, C], trust[N]\n  output x - mean(x over N weight trust)": """
        measures mean of x weighted by trust per C
        writes output = x - a""",
    "x[N, C], keep: mask[N]\n  output x - mean(x over N where keep)": """
        measures mean of x where keep per C
        writes output = x - a""",
    "x[N, C], keep: mask[N], trust[N]\n  output x - sum(x over N where keep weight trust)": """
        measures sum of x weighted by trust where keep per C
        writes output = x - a""",
    "x[N, C], a[N, C]\n  output x * sum(where(x < a, x, 0) over C where x >= a)": """
        measures sum of where(x < a, x, 0) where x >= a per N
        writes output = x * b""",
    "x[N, C], y[N, C]\n  output x - (stop(y) - x) / (x * y)": """
        writes output = x - (stop(y) - x) / (x * y)""",
    "x[N, C], y[N, C]\n  output -(x + y) * (-x)": """
        writes output = (-(x + y)) * (-x)""",
}
# Library norms with windows, scans, weights, masks, offsets, indices, pieces, casts and stops.
LIBRARY = (
    "LocalResponseNorm", "LocalContextNorm", "CumulativeLayerNorm", "PCEN", "OnlineNorm",
    "MaskedBatchNorm", "PowerNorm", "ModeNorm", "DivisiveNorm", "PackedCumulativeLayerNorm",
    "IBNNorm", "LatentRMSNorm", "BitRMSNorm", "T5LayerNorm", "GraphNorm", "AdaLIN", "ExpertRMSNorm",
)  # fmt: skip


def plans(program: Program) -> Iterator[Plan]:
    for variant in directions(optimize(program)):
        yield plan_sweeps(variant.forward)
        yield plan_sweeps(variant.backward)


def lines_of(steps: tuple[SweepSteps, ...]) -> list[str]:
    kinds = ("computes", "measures", "writes")
    return [f"{kind} {line}" for step in steps for kind in kinds for line in getattr(step, kind)]


@pytest.mark.parametrize("spec", FORWARD)
def test_formulas_of_small_norms(spec: str) -> None:
    wanted = [line.strip() for line in FORWARD[spec].strip().split("\n")]
    assert lines_of(steps_of_sweeps(next(plans(lowered(f"input {spec}"))))) == wanted


@pytest.mark.parametrize("name", LIBRARY)
def test_formulas_name_all_that_a_sweep_depends_on(name: str) -> None:
    for plan in plans(PROGRAMS[name]):
        steps = steps_of_sweeps(plan)
        words = set(re.findall(r"[\w.]+", "\n".join(lines_of(steps))))
        lets = {let.name: let.op for sweep in plan.sweeps for let in sweep.maps}
        missing = {read for sweep in plan.sweeps for read in sweep.reads} - words
        assert not missing, f"no formula reads {missing}"
        named = sum(not isinstance(op, INLINE) for op in lets.values())
        assert named == sum(len(step.computes) for step in steps)
        computed = "\n".join(line for step in steps for line in step.computes)
        assert computed.count(" = scan") == sum(isinstance(o, Recurrence) for o in lets.values())
        for op in lets.values():
            if isinstance(op, Pool):
                assert f" = {op.statistic}(" in computed
            if isinstance(op, Param):
                assert op.name in words
        measured = [line for step in steps for line in step.measures]
        for reduction, line in zip(plan.reductions, measured, strict=True):
            assert ("weighted by" in line) == (reduction.weight is not None)
            assert reduction.where is None or " where " in line
