"""Pools by given matrices as weighted pools over a copy of their axis."""

from __future__ import annotations

import pytest
import torch
from gradients import F64, point, values
from programs import after, axes, lowered, same

from metanorm.ir.aggregation import Dense
from metanorm.ir.nodes import Pool
from metanorm.ir.verify import verify
from metanorm.passes.matrices import matrices
from metanorm.passes.share import share

MADE = {
    "input x[N, C, *S], a: matrix[C, C]\noutput x - mean(x over C: a, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C.a] = %1[C -> C.a]
        %a_mean : [N, C] = mean(%2 over C.a weight a)
        %3 : [N, C, S] = sub(x, %a_mean)
        output %3
    """,
    # What is learned is a value, too.
    "input x[N, C, *S]\nparam m[N, N] = 1\noutput x - var(x over N: m, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = var(x over S)
        %3 : [N.m, C] = %1[N -> N.m]
        %between : [N, C] = var(%3 over N.m weight m)
        %4 : [N.m, C] = %2[N -> N.m]
        %within : [N, C] = mean(%4 over N.m weight m)
        %5 : [N, C] = add(%within, %between)
        %6 : [N, C, S] = sub(x, %5)
        output %6
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, share, matrices), MADE[text])


def test_the_copy_of_an_axis_is_as_long_as_it() -> None:
    program = lowered("input x[N, C, *S], a: matrix[C, C]\noutput x - mean(x over C: a, *S)")
    assert axes(matrices(share(program))) == ["N", "C", "C.a = size(C)", "*S"]


WIDE = {
    "rows of data": "input x[T, C], a: matrix[T, T]\noutput x - mean(x over T: a)",
    "beside an axis that is kept": """input x[N, C, *S], a: matrix[N, N]
        output x - mean(x over N: a)""",
}


@pytest.mark.parametrize("what", WIDE)
def test_what_is_wide_keeps_its_matrix(what: str) -> None:
    """Its copy would be as large as all pairs of its positions."""
    program = matrices(share(lowered(WIDE[what])))
    verify(program)
    pools = [let.op for let in program.body if isinstance(let.op, Pool)]
    assert any(isinstance(m, Dense) for op in pools for _, m in op.over)


def test_without_matrices_nothing_happens() -> None:
    program = lowered("input x[N, C]\noutput x - mean(x over N)")
    assert matrices(program) is program


SAME = {
    "given": ("U: matrix[N, N] = ones, V: matrix[C, C] = eye", "N: U, C: V"),
    "not symmetric": ("U: matrix[N, N]", "N: U"),
}


@pytest.mark.parametrize("what", SAME)
def test_it_computes_the_same(what: str) -> None:
    arguments, over = SAME[what]
    text = f"input x[N, C, *S]\noutput x - mean(x over {over}, *S), v = var(x over {over}, *S)"
    program = lowered(text, arguments=arguments)
    here = point(program)
    actual = values(matrices(share(program)), here.call)
    for name, wanted in values(program, here.call).items():
        torch.testing.assert_close(actual[name], wanted, rtol=1e-12, atol=1e-12)
        assert wanted.dtype == F64


def test_the_weight_of_the_pool_counts_too() -> None:
    text = "input x[N, C, *S], w[N], a: matrix[N, N]\nlet m = mean(x over *S)"
    program = lowered(f"{text}\noutput x - mean(m over N: a where (w > 0.3) weight w)")
    here = point(program)
    actual = values(matrices(share(program)), here.call)
    for name, wanted in values(program, here.call).items():
        torch.testing.assert_close(actual[name], wanted, rtol=1e-12, atol=1e-12)
