"""Axes: their order, joins with cells, what is left of a pool, what is constant along what."""

from __future__ import annotations

import pytest

from metanorm.ir.aggregation import Aggregation, ByIndex, Dense, Grouping, Ones
from metanorm.ir.nodes import Axis
from metanorm.ir.partitions import Blocks
from metanorm.ir.scalar import Const, SizeOf
from metanorm.ir.space import Axes, Space

TWO, FOUR = Blocks(Const(2)), Blocks(Const(4))


@pytest.fixture
def space() -> Space:
    """N, C = (G, D), S, with the cells of N under an index and under blocks."""
    space = Space([Axis("N"), Axis("C", parts=("G", "D")), Axis("G"), Axis("D"), Axis("S")])
    space.cell_axis("N", ByIndex("batch"))
    space.cell_axis("N", TWO)
    space.cell_axis("S", FOUR)
    return space


def test_parts_stand_where_the_whole_stands(space: Space) -> None:
    names = " ".join(axis.name for axis in space)
    assert names == "N N/batch N/blocks(2) C G D S S/blocks(4)"


def test_order_is_that_of_the_program_and_each_comes_once(space: Space) -> None:
    assert space.ordered(["S", "D", "N", "G", "D"]) == ("N", "G", "D", "S")


def test_leaves_are_what_an_axis_is_split_into(space: Space) -> None:
    assert space.leaves("C") == ("G", "D")
    assert space.leaves("N") == ("N",)


def test_cells_are_entered_once(space: Space) -> None:
    assert space.cell_axis("N", TWO) == "N/blocks(2)"
    assert [axis.name for axis in space].count("N/blocks(2)") == 1
    assert space["N/blocks(2)"].cells_of == ("N", TWO)
    assert space.base("N/blocks(2)") == "N"
    assert space.base("N") == "N"


JOINS: list[tuple[list[Axes], Axes]] = [
    ([], ()),
    ([("N",), ("S",)], ("N", "S")),
    ([("S",), ("N",)], ("N", "S")),
    ([("N",), ("N/batch",)], ("N",)),
    ([("N/batch", "G"), ("N/batch",)], ("N/batch", "G")),
    ([("N/batch",), ("N/blocks(2)",)], ("N",)),
    ([("N/batch",), ("S/blocks(4)",)], ("N/batch", "S/blocks(4)")),
]


@pytest.mark.parametrize(("many", "joined"), JOINS)
def test_join(space: Space, many: list[Axes], joined: Axes) -> None:
    """An axis absorbs its cells, and two kinds of cells meet on the axis itself."""
    assert space.join(*many) == joined


POOLS: list[tuple[Axes, Aggregation, Axes]] = [
    (("N", "S"), (("S", Ones()),), ("N",)),
    (("N", "S"), (("N", Ones()), ("S", Ones())), ()),
    (("N", "S"), (("N", TWO),), ("N/blocks(2)", "S")),
    (("N", "S"), (("N", ByIndex("batch")), ("S", Ones())), ("N/batch",)),
    (("N", "S"), (("N", Dense("U")),), ("N", "S")),
    (("N/batch", "S"), (("N/batch", Ones()),), ("S",)),
    (("S/blocks(4)",), (("S/blocks(4)", TWO),), ("S/blocks(2)",)),
    (("S/blocks(4)",), (("S", Ones()),), ()),
    (("G", "D"), (("D", Ones()),), ("G",)),
]


@pytest.mark.parametrize(("axes", "over", "left"), POOLS)
def test_pooled(space: Space, axes: Axes, over: Aggregation, left: Axes) -> None:
    assert space.pooled_axes(axes, over) == left


CONSTANT: list[tuple[Axes, str, Grouping, bool]] = [
    (("S",), "N", Ones(), True),
    (("N",), "N", Ones(), False),
    (("N/blocks(2)",), "N", TWO, True),
    (("N/blocks(2)",), "N", FOUR, True),
    (("N/blocks(2)",), "N", Ones(), False),
    (("S/blocks(4)",), "S", TWO, False),
    (("N/batch",), "N", ByIndex("batch"), True),
    (("N/batch",), "N", ByIndex("other"), False),
    (("N/batch",), "N/batch", Ones(), False),
    (("S/blocks(4)",), "S/blocks(4)", Ones(), False),
    (("S",), "S/blocks(4)", Ones(), False),
    (("N",), "S/blocks(4)", Ones(), True),
]


@pytest.mark.parametrize(("axes", "axis", "matrix", "constant"), CONSTANT)
def test_constant(space: Space, axes: Axes, axis: str, matrix: Grouping, constant: bool) -> None:
    assert space.is_constant(axes, axis, matrix) is constant


def test_an_axis_can_be_split_later() -> None:
    space = Space([Axis("N"), Axis("C"), Axis("S")])
    space.add(Axis("C", parts=("A", "B")))
    space.add(Axis("A", size=Const(2)))
    space.add(Axis("B", size=SizeOf("C")))
    assert space.ordered(["S", "B", "A", "N"]) == ("N", "A", "B", "S")
