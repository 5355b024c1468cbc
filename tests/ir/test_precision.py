"""Which parameters are widened before something is computed of them."""

from __future__ import annotations

import pytest
from from_text import from_lines

from metanorm.ir.nodes import Lookup, Param
from metanorm.ir.precision import params_to_widen, values_in_own_dtype

DECLARED = """
input x[N, C], label: index[N] of K = 3
buffer seen[C] = 0
param p[C = c] = 1, t[K] = 1
"""

ALONE = {
    "output x * p": set(),
    "output x * exp(p)": {"p"},
    "output x * exp(mean(p over C))": {"p"},
    "output x * exp(stop(p))": {"p"},
    "output x * (p - mean(p over C weight seen))": {"p"},
    "output x * exp(mean(x over N) * p)": set(),
    "output x * exp(seen + p)": set(),
    "output x * t[label]": set(),
    "output x * exp(t[label])": {"t"},
    "output x * exp(t[0])": {"t"},
    "output x * exp(mode(train: p, eval: x))": {"p"},
    "output x * exp(mean(mode(train: t[label], eval: x) over C))": {"t"},
    "output mode(train: p, eval: seen) * x": set(),
    "output x * exp(where(x > 0, p, x))": {"p"},
    "output x * exp(mode(train: seen, eval: mean(x over N)))": set(),
    "let v = p repeat 3 { v = exp(v) } output x * v": {"p"},
    "let v[N, C] = p repeat 3 { v = v * x } output v": set(),
}


@pytest.mark.parametrize("statements", ALONE)
def test_parameters_that_meet_nothing_wide(statements: str) -> None:
    assert params_to_widen(from_lines(DECLARED + statements)) == ALONE[statements]


def test_values_that_may_be_a_parameter_as_it_is() -> None:
    program = from_lines(DECLARED + "let v = t[label] let w = exp(p) output x * v * w * seen")
    ops = {program.index.ops[ref] for ref in values_in_own_dtype(program)}
    assert {type(op) for op in ops} == {Param, Lookup}
    assert Param("t") in ops and Param("p") not in ops
