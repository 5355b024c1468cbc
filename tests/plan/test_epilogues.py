"""Epilogue fusion: what is written around a norm in `output` costs no further look at the data."""

from __future__ import annotations

from textwrap import dedent

import pytest

from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import optimize
from metanorm.plan.sweeps import Plan, plan_sweeps
from metanorm.source import Source

STATISTICS = {
    "batch norm": "reduce N, *S",
    "group norm": "reduce C: blocks(2), *S",
    "layer norm": "reduce C, *S",
    "instance norm": "reduce *S",
    "by a given matrix": "reduce N: U, *S",
}
NORM = """
norm Fused(U: matrix[N, N] = ones, eps = 1e-5) {{
  input  x[N, C, *S]{inputs}
  {statistics}
  output {output}
}}
"""
PLAIN = ("", "affine(normalized per C)")
# An activation, a gate that is an input, and a residual that is one.
FUSED = (
    ", gate[N, C, *S], residual[N, C, *S]",
    "silu(affine(normalized per C)) * sigmoid(gate) + residual",
)


def programs(statistics: str, inputs: str, output: str) -> tuple[Program, Program]:
    """Forward and backward."""
    text = dedent(NORM.format(statistics=statistics, inputs=inputs, output=output))
    if "U" not in statistics:
        text = text.replace("U: matrix[N, N] = ones, ", "")
    checked = check({"fused.norm": Source.of("fused.norm", text)}, ["fused.norm"])
    assert checked.ok, checked.diagnostics
    (pair,) = directions(optimize(checked.norms["fused.norm"][0].program), check=True)
    return pair.forward, pair.backward


def traffic(sweep_plan: Plan) -> list[tuple[set[str], set[str]]]:
    """What each sweep reads and writes that is as large as the input."""
    return [(set(s.reads), {name for name, _ in s.outputs}) for s in sweep_plan.sweeps]


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_forward_reads_the_further_inputs_once_and_nothing_else(statistics: str) -> None:
    without_epilogue, with_epilogue = (
        traffic(plan_sweeps(programs(statistics, *f)[0])) for f in (PLAIN, FUSED)
    )
    assert without_epilogue == [({"x"}, set()), ({"x"}, {"output"})]
    assert with_epilogue == [({"x"}, set()), ({"x", "gate", "residual"}, {"output"})]


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_backward_takes_as_many_sweeps_and_writes_gradients_alone(statistics: str) -> None:
    """The derivative of the activation is computed again from x; no sweep reads the residual."""
    without_epilogue, with_epilogue = (
        traffic(plan_sweeps(programs(statistics, *f)[1])) for f in (PLAIN, FUSED)
    )
    assert [r for r, _ in without_epilogue] == [{"x", "d.output"}] * 2
    assert [r for r, _ in with_epilogue] == [{"x", "d.output", "gate"}] * 2
    assert set().union(*(w for _, w in without_epilogue)) == {"d.x"}
    assert set().union(*(w for _, w in with_epilogue)) == {"d.x", "d.gate", "d.residual"}


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_nothing_wide_is_kept_or_stored(statistics: str) -> None:
    """Between the directions and the sweeps there are statistics; islands stay what they were."""
    for direction in (0, 1):
        without_epilogue, with_epilogue = (
            plan_sweeps(programs(statistics, *f)[direction]) for f in (PLAIN, FUSED)
        )
        kept = {i.name: i.dims for i in with_epilogue.program.inputs if i.name.startswith("kept.")}
        assert not any(set(with_epilogue.data_axes) <= set(dims) for dims in kept.values())
        stored = {let.name for s in with_epilogue.sweeps for let in s.narrow} | {
            let.name for let in (*with_epilogue.prologue, *with_epilogue.epilogue)
        }
        assert not any(
            set(with_epilogue.data_axes) <= set(with_epilogue.type_of(ref).axes) for ref in stored
        )
        assert with_epilogue.islands == without_epilogue.islands
