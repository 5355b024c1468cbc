"""The algebra of aggregation matrices, and how they are written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metanorm.ir.aggregation import (
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    Ones,
    Window,
    grouping_text,
    is_partition,
    refines,
)
from metanorm.ir.partitions import Blocks, Chunks, Interleave
from metanorm.ir.scalar import Const, Hyper

TEXTS: dict[str, Grouping] = {
    "ones": Ones(),
    "blocks(8)": Blocks(Const(8)),
    "chunks(k)": Chunks(Hyper("k")),
    "interleave(2)": Interleave(Const(2)),
    "batch": ByIndex("batch"),
    "U": Dense("U"),
    "window(3, edge = zero)": Window(Const(3), "zero"),
    "causal": Causal(None),
    "causal(5)": Causal(Const(5)),
    "edges": Neighbours("edges", False),
    "edges with self": Neighbours("edges", True),
}


@pytest.mark.parametrize("text", TEXTS)
def test_matrices_are_written_as_in_the_language(text: str) -> None:
    assert grouping_text(TEXTS[text]) == text


def test_partitions_are_the_matrices_that_cut_an_axis() -> None:
    partitions = {text for text, matrix in TEXTS.items() if is_partition(matrix)}
    assert partitions == {"ones", "blocks(8)", "chunks(k)", "interleave(2)", "batch"}


REFINES = [
    (None, Blocks(Const(2))),
    (None, Dense("U")),
    (Blocks(Const(4)), Blocks(Const(2))),
    (Blocks(Const(4)), Ones()),
    (Chunks(Const(2)), Chunks(Const(6))),
    (Interleave(Const(6)), Interleave(Const(3))),
    (ByIndex("a"), Ones()),
    (ByIndex("a"), ByIndex("a")),
    (Blocks(Hyper("g")), Blocks(Hyper("g"))),
    (Dense("U"), Dense("U")),
]
COARSER_OR_UNKNOWN = [
    (Blocks(Const(2)), Blocks(Const(4))),
    (Blocks(Const(4)), Blocks(Const(3))),
    (Chunks(Const(6)), Chunks(Const(2))),
    (Chunks(Const(2)), Blocks(Const(2))),
    (Blocks(Const(4)), Interleave(Const(2))),
    (Blocks(Hyper("g")), Blocks(Const(1))),
    (Ones(), Blocks(Const(1))),
    (ByIndex("a"), ByIndex("b")),
    (Dense("U"), Ones()),
    (Window(Const(3), "zero"), Ones()),
]


@pytest.mark.parametrize(("fine", "coarse"), REFINES)
def test_refines(fine: Grouping | None, coarse: Grouping) -> None:
    assert refines(fine, coarse)


@pytest.mark.parametrize(("fine", "coarse"), COARSER_OR_UNKNOWN)
def test_does_not_refine(fine: Grouping, coarse: Grouping) -> None:
    assert not refines(fine, coarse)


LENGTH = 24
DIVISORS = (1, 2, 3, 4, 6, 8, 12, 24)


def cells(matrix: Grouping) -> torch.Tensor:
    """The part of each position of an axis of 24."""
    position = torch.arange(LENGTH)
    match matrix:
        case Blocks(Const(count)):
            return position * int(count) // LENGTH
        case Chunks(Const(size)):
            return position // int(size)
        case Interleave(Const(count)):
            return position % int(count)
        case _:
            return torch.zeros(LENGTH)


matrices = st.one_of(
    st.just(Ones()),
    *(
        st.sampled_from(DIVISORS).map(lambda n, kind=kind: kind(Const(n)))
        for kind in (Blocks, Chunks, Interleave)
    ),
)


@given(fine=matrices, coarse=matrices)
def test_refinement_is_what_it_says(fine: Grouping, coarse: Grouping) -> None:
    """Every pool of the coarse one is a union of pools of the fine one: checked by listing them."""
    if refines(fine, coarse):
        small, large = cells(fine), cells(coarse)
        same_small = small[:, None] == small[None, :]
        same_large = large[:, None] == large[None, :]
        assert bool((same_large | ~same_small).all())


@given(a=matrices, b=matrices, c=matrices)
def test_refinement_is_an_order(a: Grouping, b: Grouping, c: Grouping) -> None:
    assert refines(a, a)
    if refines(a, b) and refines(b, c):
        assert refines(a, c)
