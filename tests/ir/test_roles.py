"""What nameless values are called in generated code."""

from __future__ import annotations

from from_text import from_lines

from metanorm.ir.roles import roles
from metanorm.passes.pipeline import optimize


def test_operands_of_a_normalization_are_called_by_what_they_do() -> None:
    program = optimize(
        from_lines("""
        input x[N, C]
        param p[C = c] = 1, q[C] = 1
        output (x - p * q) * (p + q) + (p - q)
    """)
    )
    assert sorted(roles(program).values()) == ["centre", "scale", "shift"]


def test_a_sum_is_called_after_what_it_sums() -> None:
    program = from_lines("input x[N, C]\noutput x - sum(x over N) * sum(x * x over N)")
    assert "x_sum" in roles(program).values()
    assert not any(ref for ref in roles(program) if not ref.startswith("%"))
