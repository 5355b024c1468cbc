"""A program for each way through its modes: which ways there are, and what is left in each."""

from __future__ import annotations

import pytest
import torch
from conftest import PROGRAMS
from gradients import point, values
from programs import Step, after, lowered, same

from metanorm.ir.nodes import Count, Pool
from metanorm.ir.program import Program
from metanorm.ir.verify import verify
from metanorm.passes.pipeline import optimize
from metanorm.passes.simplify import simplify
from metanorm.passes.variants import variants

TRACKED = "input x[N, C]\nlet m = moments(x over N track 0.1)\n"
BOTH = f"{TRACKED}output (x - m.mean) * mode(train: 2, eval: 3)"


def arm(name: str) -> Step:
    """A step that leaves one arm."""
    return lambda program: variants(program)[name]


# An arm is there only where it differs: each is compiled, and takes its time.
NAMES = {
    "input x[N, C]\nreduce C": ["train"],
    "input x[N, C]\nreduce N\ntrack 0.1": ["train", "eval"],
    "input x[N, C]\noutput x * mode(train: 2, eval: 3)": ["train", "eval"],
    "input x[N, C]\nbuffer b = 1\noutput x * b\nupdate b = mean(x over N, C)": ["train", "eval"],
    BOTH: ["train", "eval", "batch"],
}


@pytest.mark.parametrize("text", NAMES)
def test_names(text: str) -> None:
    assert list(variants(lowered(text))) == NAMES[text]


ARMS = {
    "train": """
        m_mean : [C] = mean(x over N)
        %1 : [C] = var(x over N)
        %2 : [] = count(over N)
        %3 : [C] = unbiased(%1, %2)
        %4 : [N, C] = rescale(x, m_mean, 0, 2)
        update running_mean <- m_mean by 0.1
        update running_var <- %3 by 0.1
        output %4
    """,
    "eval": """
        %1 : [N, C] = rescale(x, running_mean, 0, 3)
        output %1
    """,
    # Evaluation without running statistics: those of the batch, and nothing is updated.
    "batch": """
        m_mean : [C] = mean(x over N)
        %1 : [N, C] = rescale(x, m_mean, 0, 3)
        output %1
    """,
}


@pytest.mark.parametrize("name", ARMS)
def test_modes_of_two_kinds_go_their_own_ways(name: str) -> None:
    same(after(BOTH, simplify, arm(name)), ARMS[name])


def test_an_arm_of_a_mode_has_all_axes_of_the_mode() -> None:
    """Whoever reads the value was typed for the mode, which has the axes of both arms."""
    text = """
        input x[N, C], a[C]
        buffer b = 1
        output x * mode(train: a, eval: b)
    """
    same(
        after(text, simplify, arm("eval")),
        """
        %1 : [C] = expand(b to C)
        %2 : [N, C] = mul(x, %1)
        output %2
        """,
    )


def test_maps_are_folded_once_more() -> None:
    """With the mode between them gone, two maps of x are one."""
    text = "input x[N, C], a[N]\noutput mode(train: x * a, eval: x) * 2 + 1"
    same(
        after(text, simplify, arm("train")),
        """
        %scale : [N] = mul(a, 2)
        %1 : [N, C] = rescale(x, 0, 1, %scale)
        output %1
        """,
    )


def test_updates_read_what_a_mode_became() -> None:
    text = """
        input x[N, C]
        buffer b = 1
        let m = mode(train: mean(x over N, C), eval: b)
        output x * m
        update b = m
    """
    same(
        after(text, simplify, arm("train")),
        """
        m : [] = mean(x over N, C)
        %1 : [N, C] = mul(x, m)
        update b <- m
        output %1
        """,
    )


def test_each_arm_is_what_the_norm_does_when_called_that_way(program: Program) -> None:
    for name, decided in variants(optimize(program)).items():
        verify(decided)
        here = point(program, name)
        for output, actual in values(decided, here.call).items():
            wanted = here.outputs[output].reshape(actual.shape)
            torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)


def test_batch_norm_in_eval_mode_has_no_statistic() -> None:
    body = variants(optimize(PROGRAMS["BatchNorm"]))["eval"].body
    assert not any(isinstance(let.op, (Pool, Count)) for let in body)
