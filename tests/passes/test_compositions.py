"""Formulas of functions: what they compute, and where they are written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from programs import lowered

from metanorm.ir.nodes import Map, Number, Ref
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.program import Program
from metanorm.ir.scalar import Const
from metanorm.oracle.functions import FUNCTIONS
from metanorm.passes.builder import Builder
from metanorm.passes.compositions import COMPOSITIONS, PRIMITIVES
from metanorm.passes.derivable import derivable
from metanorm.passes.derivatives import DERIVATIVES
from metanorm.passes.primitives import primitives

POINTS = torch.tensor(
    [-800.0, -3.0, -1.0, -0.4, 0.0, 0.3, 1.0, 2.0, 7.0, 800.0, float("nan")], dtype=torch.float64
)


def value(builder: Builder, ref: Ref, known: dict[Ref, torch.Tensor]) -> torch.Tensor:
    """A value that consists of maps and numbers, as the oracle computes these."""
    if ref not in known:
        op = builder.ops[ref]
        if isinstance(op, Number):
            assert isinstance(op.value, Const)
            known[ref] = torch.tensor(op.value.value, dtype=torch.float64)
        else:
            assert isinstance(op, Map) and op.function in PRIMITIVES
            known[ref] = FUNCTIONS[op.function](*(value(builder, a, known) for a in op.arguments))
    return known[ref]


@pytest.mark.parametrize("function", sorted(COMPOSITIONS))
def test_a_formula_is_what_the_oracle_computes(function: str) -> None:
    names = [f"a{i}" for i in range(len(ELEMENTWISE[function].parameters))]
    program = lowered(f"input {', '.join(f'{n}[N]' for n in names)}\noutput {' * '.join(names)}")
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    refs = [builder.value_map[name] for name in names]
    result = COMPOSITIONS[function](builder, *refs)
    points = torch.tensor(list(itertools.product(POINTS, repeat=len(names))), dtype=torch.float64).T
    if function == "unbiased":  # of a count
        points = points[:, points[1] > 0]
    actual = value(builder, result, dict(zip(refs, points)))
    torch.testing.assert_close(actual, FUNCTIONS[function](*points), equal_nan=True)


def functions(program: Program) -> set[str]:
    return {let.op.function for let in program.body if isinstance(let.op, Map)}


def test_kernels_get_primitives_alone() -> None:
    program = lowered("input x[N]\noutput silu(x) + relu(x) * gelu(sigmoid(x))")
    assert functions(program) > {"silu", "relu", "gelu", "sigmoid"}
    assert functions(primitives(program)) <= PRIMITIVES


def test_what_has_a_derivative_stays_until_it_is_derived() -> None:
    program = lowered("input x[N]\noutput silu(x)")
    assert "silu" in DERIVATIVES
    assert derivable(program) is program


def test_what_has_none_is_derived_by_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    program = lowered("input x[N]\noutput silu(x)")
    monkeypatch.delitem(DERIVATIVES, "silu")  # type: ignore[arg-type]
    assert functions(derivable(program)) == {"neg", "exp", "add", "div"}
