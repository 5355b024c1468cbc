"""The type of every operation, and what has none."""

from __future__ import annotations

import pytest
from bodies import AXES, BUFFERS, INPUTS, PARAMS

from metanorm.ir.aggregation import ByIndex, Dense, Ones
from metanorm.ir.dump import type_text
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Count,
    Detach,
    Expand,
    Input,
    Lookup,
    Map,
    Mode,
    Number,
    Op,
    Param,
    Pool,
    Position,
    Recurrence,
    Rename,
    Repeat,
    Type,
)
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.partitions import Blocks
from metanorm.ir.scalar import Const
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of

KNOWN = {
    "x": Type("real", ("N", "C", "S")),
    "row": Type("real", ("N",)),
    "w": Type("real", ("C",)),
    "one": Type("real"),
    "keep": Type("bool", ("N",)),
    "label": Type("int", ("N",)),
}
ONES = Ones()


def inferred(op: Op) -> Type:
    return type_of(op, KNOWN, Declarations(Space(AXES), INPUTS, PARAMS, BUFFERS))


TYPES: list[tuple[Op, str]] = [
    (Number(Const(2)), "[]"),
    (Input("x"), "[N, C, S]"),
    (Input("label"), "int[N]"),
    (Input("keep"), "bool[N]"),
    (Param("w"), "[C]"),
    (Buffer("seen"), "[C]"),
    (Position("C"), "[C]"),
    (Map("add", ("w", "row")), "[N, C]"),
    (Map("gt", ("x", "one")), "bool[N, C, S]"),
    (Map("where", ("keep", "w", "one")), "[N, C]"),
    (Map("clamp_min", ("x", "one")), "[N, C, S]"),
    (Pool("mean", "x", (("C", ONES), ("S", ONES))), "[N]"),
    (Pool("mean", "x", (("N", ByIndex("label")), ("S", ONES))), "[N/label, C]"),
    (Pool("var", "x", (("C", Blocks(Const(2))),)), "[N, C/blocks(2), S]"),
    (Pool("mean", "x", (("C", Dense("U")), ("S", ONES))), "[N, C]"),
    (Pool("sum", "w", (("C", ONES),), where="keep"), "[N]"),
    (Pool("second", "x", (("S", ONES),), about="w"), "[N, C]"),
    (Pool("second", "w", (("C", ONES),), about="row"), "[N]"),
    (Count((("N", ONES), ("S", ONES))), "[]"),
    (Count((("N", ByIndex("label")),)), "[N/label]"),
    (Count((("S", ONES),), where="keep"), "[N]"),
    (AxisMap("softmax", "x", "C"), "[N, C, S]"),
    (Recurrence("x", "w", "row", "C"), "[N, C, S]"),
    (Recurrence("row", "keep", "row", "C", reverse=True, before=True), "[N, C]"),
    (Lookup("w", "C", "label"), "[N]"),
    (Lookup("x", "C", 0), "[N, S]"),
    (Rename("w", "C", "D"), "[D]"),
    (Rename("x", "C", "D"), "[N, S, D]"),
    (Expand("row", ("C",)), "[N, C]"),
    (Detach("keep"), "bool[N]"),
    (Mode("row", "w"), "[N, C]"),
    (Repeat(Const(3), ("%a", "%b"), ("row", "w"), (), ("%a", "%b"), 1), "[C]"),
]


@pytest.mark.parametrize(("op", "type_"), TYPES, ids=lambda v: v if isinstance(v, str) else "")
def test_type(op: Op, type_: str) -> None:
    assert type_text(inferred(op)) == type_


ILL_TYPED: list[tuple[Op, str]] = [
    (Map("nonsense", ("x",)), "nonsense with 1 arguments"),
    (Map("add", ("x",)), "add with 1 arguments"),
    (Map("sqrt", ("x", "x")), "sqrt with 2 arguments"),
    (Map("add", ("x", "label")), "add of an index"),
    (Pool("mean", "x", ()), "a pool over nothing"),
    (Pool("mean", "row", (("C", ONES),)), "a pool over C, which the value does not have"),
    (AxisMap("softmax", "row", "C"), "no axis C to map along"),
    (Recurrence("x", "x", "w", "C"), "a start, or a value of groups, along C"),
    (Recurrence("x", "label", "row", "C"), "a scan of what is no number"),
    (Lookup("row", "C", 0), "no axis C to look up"),
    (Rename("row", "C", "D"), "cannot rename C to D"),
    (Rename("x", "C", "N"), "cannot rename C to N"),
]


@pytest.mark.parametrize(("op", "why"), ILL_TYPED, ids=lambda v: v if isinstance(v, str) else "")
def test_ill_typed(op: Op, why: str) -> None:
    with pytest.raises(IllTyped, match=why):
        inferred(op)


@pytest.mark.parametrize("op", [Input("nobody"), Param("x"), Buffer("w"), Detach("nobody")])
def test_undeclared(op: Op) -> None:
    with pytest.raises(KeyError):
        inferred(op)


def test_every_elementwise_function_has_a_type() -> None:
    for name, row in ELEMENTWISE.items():
        for count in range(row.min_arguments, len(row.parameters) + 1):
            kind = "bool" if row.boolean else "real"
            assert inferred(Map(name, ("x",) * count)) == Type(kind, ("N", "C", "S"))


def test_split_axes_become_their_parts() -> None:
    program_axes = Space(AXES)
    known = Declarations(program_axes, INPUTS)
    assert known.axes(("S", "N")) == ("N", "S"), "in the order of the program"
