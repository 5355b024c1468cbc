"""Equal operations once, nothing dead, names kept. The rewrite rules are in `test_algebra.py`."""

from __future__ import annotations

import pytest
from conftest import PROGRAMS
from programs import after, lowered, same, shown

from metanorm.ir.dump import program_text
from metanorm.passes.simplify import simplify


def test_equal_operations_are_bound_once_under_the_first_name() -> None:
    text = """
        input x[N]
        let a = tanh(x)
        let b = tanh(x)
        output y = a * b, b
    """
    same(
        after(text, simplify),
        """
        a : [N] = tanh(x)
        %1 : [N] = mul(a, a)
        output %1
        output a
        """,
    )


def test_equal_pools_are_bound_once() -> None:
    text = """
        input x[N, C], k: mask[N]
        output x * mean(x over N where k) / mean(x over N where k)
    """
    same(
        after(text, simplify),
        """
        %1 : [C] = mean(x over N where k)
        %2 : [N, C] = mul(x, %1)
        %3 : [N, C] = div(%2, %1)
        output %3
        """,
    )


@pytest.mark.parametrize(
    "other",
    [
        "mean(x over N where l)",
        "mean(x over N)",
        "mean(x over N weight w)",
        "mean(x over N: chunks(2))",
        "sum(x over N where k)",
    ],
)
def test_pools_that_differ_in_anything_stay_apart(other: str) -> None:
    text = f"""
        input x[N, C], k: mask[N], l: mask[N], w[N]
        output x * mean(x over N where k) / {other}
    """
    assert after(text, simplify) == shown(lowered(text))


def test_variances_of_another_ddof_stay_apart() -> None:
    text = "input x[N, C]\noutput x / var(x over N) / var(x over N, ddof = 1)"
    assert after(text, simplify).count(" = var(") == 2


def test_what_nothing_needs_is_left_out() -> None:
    text = "input x[N, C], z[N]\nlet a = mean(x over N)\nlet b = a - z\noutput x"
    assert after(text, simplify) == "output x"


def test_what_only_a_buffer_needs_stays() -> None:
    text = "input x[N]\nbuffer seen = 0\nupdate seen = mean(x over N)\noutput x"
    same(
        after(text, simplify),
        """
        %1 : [] = mean(x over N)
        update seen <- %1
        output x
        """,
    )


def test_cells_that_no_value_has_are_no_axes() -> None:
    text = "input x[N, C]\nlet a = mean(x over C: blocks(2))\noutput x"
    assert "blocks" in program_text(lowered(text))
    assert "blocks" not in program_text(simplify(lowered(text)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_there_is_nothing_left_to_do(name: str) -> None:
    once = simplify(PROGRAMS[name])
    assert shown(simplify(once)) == shown(once)
