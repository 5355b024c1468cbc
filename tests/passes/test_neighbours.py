"""Pools of neighbours as weighted pools over a copy of their axis."""

from __future__ import annotations

import pytest
import torch
from gradients import point, values
from programs import after, axes, lowered, same
from test_gradients import agree

from metanorm.ir.aggregation import Neighbours
from metanorm.ir.nodes import Count, Pool
from metanorm.passes.neighbours import neighbours

INPUTS = "input x[V, D], e: edges[V]"
MADE = {
    f"{INPUTS}\noutput x - mean(x over V: e, D)": """
        %1 : [V] = mean(x over D)
        %2 : [V, V.e] = links(e from V.e to V)
        %3 : [V.e] = %1[V -> V.e]
        %4 : [V] = mean(%3 over V.e weight %2)
        %5 : [V, D] = sub(x, %4)
        output %5
    """,
    f"{INPUTS}, keep: mask[V]\noutput x * count(over V: e with self where keep)": """
        %1 : [V, V.e.self] = links(e with self from V.e.self to V)
        %2 : bool[V.e.self] = keep[V -> V.e.self]
        %3 : [V] = count(over V.e.self where %2 weight %1)
        %4 : [V, D] = mul(x, %3)
        output %4
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, neighbours), MADE[text])


def test_the_copy_of_an_axis_is_as_long_as_it() -> None:
    program = lowered(f"{INPUTS}\noutput x - mean(x over V: e, D)")
    assert axes(neighbours(program)) == ["V", "V.e = size(V)", "D"]


KEPT = {
    "as large as the data": f"{INPUTS}\noutput x - mean(x over V: e)",
    "a mask of elements": f"{INPUTS}, k: mask[V, D]\noutput x * mean(x over V: e, D where k)",
    "another statistic": f"{INPUTS}\noutput x / rms(x over V: e, D)",
}


@pytest.mark.parametrize("what", KEPT)
def test_what_stays_as_it_is(what: str) -> None:
    program = lowered(KEPT[what])
    assert neighbours(program) == program


POOLED = {
    "all statistics": f"""{INPUTS}
        output x * (mean(x over V: e, D) + var(x over V: e, D) + sum(x over V: e with self, D))""",
    "extremes": f"{INPUTS}\noutput x * max(x over V: e with self, D) - min(x over V: e, D)",
    "of cells": f"""{INPUTS}, w[V]
        output x * mean(w over V: e) + var(w over V: e weight w^2) * count(over V: e)""",
    "masks of nodes": f"""{INPUTS}, k: mask[V]
        output x - mean(x over V: e, D where k) * var(x over V: e with self, D where k)""",
    "neighbours of neighbours": f"""{INPUTS}
        output x - mean(mean(x over V: e, D) over V: e) + x * var(max(x over D) over V: e)""",
    "of two kinds": f"""{INPUTS}
        output x - mean(x over V: e, D) * var(x over V: e with self, D)""",
    "channels of their own": """input x[V, H, D], e: edges[V]
        output x / (1 + var(x over V: e, D)) - mean(x over V: e, D)""",
}


@pytest.mark.parametrize("what", POOLED)
def test_gradients_agree(what: str) -> None:
    agree(lowered(POOLED[what]))


@pytest.mark.parametrize("what", POOLED)
def test_nothing_is_pooled_over_neighbours_any_more(what: str) -> None:
    program = lowered(POOLED[what])
    done = neighbours(program)
    pools = [let.op for let in done.body if isinstance(let.op, (Pool, Count))]
    assert pools and not any(isinstance(m, Neighbours) for op in pools for _, m in op.over)
    torch.manual_seed(0)
    here = point(program)
    before, now = values(program, here.call), values(done, here.call)
    for name, wanted in before.items():
        torch.testing.assert_close(now[name], wanted, rtol=1e-9, atol=1e-9)
