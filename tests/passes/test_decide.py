"""Modes inside modes, and the two kinds of mode: training, and keeping running statistics."""

from __future__ import annotations

from programs import after, lowered, same, shown

from metanorm.passes.decide import decide
from metanorm.passes.simplify import simplify


def test_in_the_arm_for_training_training_is_on() -> None:
    text = """
        input x[N]
        let a = mode(train: x, eval: 2 * x)
        output mode(train: a + 1, eval: x)
    """
    same(
        after(text, decide),
        """
        %1 : [N] = add(x, 1)
        %2 : [N] = mode(train: %1, eval: x)
        output %2
        """,
    )


def test_in_the_arm_for_evaluation_training_is_off() -> None:
    text = """
        input x[N]
        let a = mode(train: x, eval: 2 * x)
        output mode(train: x, eval: a + 1)
    """
    same(
        after(text, decide),
        """
        a : [N] = mul(2, x)
        %1 : [N] = add(a, 1)
        %2 : [N] = mode(train: x, eval: %1)
        output %2
        """,
    )


def test_a_mode_that_is_needed_elsewhere_too_stays() -> None:
    text = """
        input x[N]
        let a = mode(train: x, eval: 2 * x)
        output y = mode(train: a + 1, eval: x), a
    """
    assert after(text, simplify, decide) == after(text, simplify)


def test_an_update_happens_in_training() -> None:
    text = """
        input x[N]
        buffer seen = 0
        update seen = mode(train: mean(x over N), eval: 0)
        output x - seen
    """
    same(
        after(text, decide),
        """
        %1 : [] = mean(x over N)
        %2 : [N] = sub(x, seen)
        update seen <- %1
        output %2
        """,
    )


def test_statistics_of_the_batch_may_be_wanted_in_evaluation() -> None:
    """Without running statistics they are; the mode of the value they are taken of must stay."""
    text = """
        input x[N, C]
        let a = mode(train: x, eval: tanh(x))
        output normalize(a over N track 0.1)
    """
    assert "a : [N, C] = mode(train: x, eval: %1)" in after(text, simplify, decide)


def test_a_program_without_modes_is_left_alone() -> None:
    program = lowered("input x[N, C]\noutput x - mean(x over N)")
    assert decide(program) is program
    assert shown(program) == after("input x[N, C]\noutput x - mean(x over N)", decide)
