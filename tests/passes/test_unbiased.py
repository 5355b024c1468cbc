"""Variances that divide by n - 1 come from those that divide by n."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.frontend import check
from metanorm.ir.dump import op_text
from metanorm.ir.nodes import Repeat
from metanorm.ir.operands import every_let
from metanorm.ir.verify import verify
from metanorm.passes.moments import moments
from metanorm.passes.unbiased import unbiased
from metanorm.source import Source

BOTH = "input x[N, C]\noutput x / var(x over C) / var(x over C, ddof = 1)"


def test_biased_and_unbiased_variance_look_at_x_once() -> None:
    same(
        after(BOTH, unbiased),
        """
        %1 : [N] = var(x over C)
        %2 : [N, C] = div(x, %1)
        %3 : [] = count(over C)
        %4 : [N] = unbiased(%1, %3)
        %5 : [N, C] = div(%2, %4)
        output %5
        """,
    )


def test_the_biased_one_is_rewritten_as_others_are() -> None:
    same(
        after("input x[N, C], a[N]\noutput x * var(a * x over C, ddof = 1)", unbiased, moments),
        """
        %1 : [N] = var(x over C)
        %2 : [N] = mul(a, a)
        %3 : [N] = mul(%2, %1)
        %4 : [] = count(over C)
        %5 : [N] = unbiased(%3, %4)
        %6 : [N, C] = mul(x, %5)
        output %6
        """,
    )


NESTED = """
norm Inner {
  input x[N, C]
  let d[N] = 1
  repeat 2 { d = d + var(d * x over C, ddof = 1) }
  output x * d
}
norm Outer {
  input x[N, C]
  let y = x
  repeat 3 { y = Inner(y) }
  output y
}
"""


@pytest.mark.parametrize("position", [0, 1], ids=["one loop", "a loop in a loop"])
def test_variances_in_loops_are_made_unbiased_there(position: int) -> None:
    checked = check({"t.norm": Source.of("t.norm", NESTED)}, ["t.norm"])
    program = unbiased(checked.norms["t.norm"][position].program)
    verify(program)
    steps = [op_text(let.op) for let in every_let(program.body) if not isinstance(let.op, Repeat)]
    assert not any("ddof" in step for step in steps)
    assert any(step.startswith("unbiased(") for step in steps)


def test_a_program_without_ddof_stays() -> None:
    program = lowered("input x[N, C]\noutput x / var(x over C)")
    assert unbiased(program) is program
