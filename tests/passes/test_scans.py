"""Pools that overlap as scans of cells. That meanings stay, `test_pipeline.py` asks the oracle."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.reductions import reductions
from metanorm.passes.scans import scans

MADE = {
    "input x[N, C, T]\noutput x - mean(x over C, T: causal)": """
        %1 : [N, T] = mean(x over C)
        %2 : [N, T] = sum(%1 over T: reach(all, 0))
        %3 : [T] = position(T)
        %4 : [T] = min(%3, (size(T) - 1))
        %5 : [T] = add(%4, 1)
        %6 : [N, T] = div(%2, %5)
        %7 : [N, C, T] = sub(x, %6)
        output %7
    """,
    # Chan's rule, one axis after the other.
    "input x[N, C, H, W]\noutput x - var(x over C, H: window(4), W: causal(2))": """
        %1 : [N, H, W] = mean(x over C)
        %2 : [N, H, W] = var(x over C)
        %3 : [N, H, W] = mean(%1 over H: reach(2, 1))
        %4 : [N, H, W] = var(%1 over H: reach(2, 1))
        %5 : [N, H, W] = sum(%2 over H: reach(2, 1))
        %6 : [H] = position(H)
        %7 : [H] = sub(%6, 2)
        %8 : [H] = max(%7, 0)
        %9 : [H] = add(%6, 1)
        %10 : [H] = min(%9, (size(H) - 1))
        %11 : [H] = sub(%10, %8)
        %12 : [H] = add(%11, 1)
        %13 : [N, H, W] = div(%5, %12)
        %14 : [N, H, W] = add(%13, %4)
        %15 : [N, H, W] = var(%3 over W: reach(1, 0))
        %16 : [N, H, W] = sum(%14 over W: reach(1, 0))
        %17 : [W] = position(W)
        %18 : [W] = sub(%17, 1)
        %19 : [W] = max(%18, 0)
        %20 : [W] = min(%17, (size(W) - 1))
        %21 : [W] = sub(%20, %19)
        %22 : [W] = add(%21, 1)
        %23 : [N, H, W] = div(%16, %22)
        %24 : [N, H, W] = add(%23, %15)
        %25 : [N, C, H, W] = sub(x, %24)
        output %25
    """,
    # Where a segment ends, only a scan finds: pools are counted by a scan of ones.
    "input x[N, C, T], o: offsets[T]\noutput x - mean(x over C, T: window(3) within o)": """
        %1 : [N, T] = mean(x over C)
        %2 : [N, T] = sum(%1 over T: reach(1, 1) within o)
        %3 : [T] = expand(1 to T)
        %4 : [T] = sum(%3 over T: reach(1, 1) within o)
        %5 : [N, T] = div(%2, %4)
        %6 : [N, C, T] = sub(x, %5)
        output %6
    """,
    # Masks become weights of cells.
    "input x[N, C, T], keep: mask[N, T]\noutput x - mean(x over C, T: window(3) where keep)": """
        %1 : [N, T] = where(keep, 1, 0)
        %2 : [] = count(over C)
        %3 : [N, T] = mul(%1, %2)
        %4 : [N, T] = mean(x over C where keep)
        %5 : [N, T] = mean(%4 over T: reach(1, 1) weight %3)
        %6 : [N, C, T] = sub(x, %5)
        output %6
    """,
}


@pytest.mark.parametrize("text", MADE)
def test_made(text: str) -> None:
    same(after(text, reductions, scans), MADE[text])


KEPT = (
    "input x[N, C, T]\noutput x - mean(x over C)",
    "input x[N, C, T]\noutput x - max(x over C, T: causal)",
    "input x[N, C, T], w[N, C, T]\noutput x - mean(x over C, T: causal weight w)",
)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_left_as_it_is(text: str) -> None:
    assert after(text, reductions, scans) == after(text, reductions)


def test_once_is_enough() -> None:
    for text in MADE:
        once = scans(reductions(lowered(text)))
        assert scans(once) == once
