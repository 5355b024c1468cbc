"""Programs as text: every operation has a line of its own, and the text is stable."""

from __future__ import annotations

import pytest
from conftest import PROGRAMS
from from_text import from_lines

from metanorm.ir.aggregation import Ones
from metanorm.ir.dump import op_text, over_text, program_text, type_text
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
from metanorm.ir.partitions import Blocks
from metanorm.ir.scalar import Const, Hyper

OVER = (("N", Ones()), ("C", Blocks(Hyper("g"))))
TEXTS: list[tuple[Op, str]] = [
    (Number(Const(2)), "2"),
    (Input("x"), "input x"),
    (Param("w"), "param w"),
    (Buffer("b"), "buffer b"),
    (Position("C"), "position(C)"),
    (Map("add", ("a", "b")), "add(a, b)"),
    (Pool("mean", "x", OVER), "mean(x over N, C: blocks(g))"),
    (
        Pool("second", "x", OVER, "k", "w", "m", 1),
        "second(x about m over N, C: blocks(g) where k weight w ddof 1)",
    ),
    (Count(OVER, "k"), "count(over N, C: blocks(g) where k)"),
    (AxisMap("softmax", "x", "C"), "softmax(x along C)"),
    (AxisMap("sparsestmax", "x", "C", Const(0.5)), "sparsestmax(x along C, 0.5)"),
    (Recurrence("x", "a", "s", "C"), "scan(x along C, decay a, start s)"),
    (
        Recurrence("x", "a", "s", "C", reverse=True, before=True),
        "scan in reverse before(x along C, decay a, start s)",
    ),
    (Lookup("t", "K", "label"), "t[K: label]"),
    (Lookup("t", "K", 1), "t[K: 1]"),
    (Rename("x", "N", "M"), "x[N -> M]"),
    (Expand("x", ("N", "C")), "expand(x to N, C)"),
    (Detach("x"), "stop(x)"),
    (Mode("a", "b"), "mode(train: a, eval: b)"),
    (Mode("a", "b", "running"), "mode(train: a, eval: b if running)"),
    (
        Repeat(Const(3), ("%a",), ("x",), (), ("%b",), 0),
        "repeat 3 from %a = x to %b [0]",
    ),
]


@pytest.mark.parametrize(("op", "text"), TEXTS, ids=lambda v: v if isinstance(v, str) else "")
def test_operation(op: Op, text: str) -> None:
    assert op_text(op) == text


def test_parts() -> None:
    assert over_text(OVER) == "N, C: blocks(g)"
    assert type_text(Type("bool", ("N", "C"))) == "bool[N, C]"
    assert type_text(Type("real")) == "[]"


WHOLE = """\
program T for activation
  axis N
  axis C = width = (G, D)
  axis G = groups
  axis D = (size(C) // groups)
  axis *S
  axis K = 3
  input x: tensor[N, C, S]
  input label: index[N] of K
  input scale: tensor[N] = 1.0
  param w[C] = 2
  buffer seen[C] = 0
  %1 : [] = groups
  x : [N, G, D, S] = input x
  label : int[N] = input label
  scale : [N] = input scale
  w : [G, D] = param w
  seen : [G, D] = buffer seen
  %7 : [N, G, D, S] = mul(x, w)
  %8 : [N, G, S] = mean(x over D)
  y : [N, G, D, S] = add(%7, %8)
  %10 : [G, D] = mean(x over N, S)
  update seen <- %10
  output y, scale like scale
"""


def test_program() -> None:
    program = from_lines(
        """
        input x[N, C = width, *S], label: index[N] of K = 3, scale[N] = 1
        axis C = (G = groups, D)
        param w[C] = 2
        buffer seen[C] = 0
        let y = x * w + mean(x over D)
        update seen = mean(x over N, *S)
        output y, scale
        """,
        "groups: int",
    )
    assert program_text(program) == WHOLE


def test_a_parameter_names_what_turns_it_on() -> None:
    lines = """
        input x[N, C = width]
        param w[C] = 1 if learn, b[C] = 0.5
        output affine(x * w + b per C)
    """
    text = program_text(from_lines(lines))
    assert "\n  param w[C] = 1 if learn, else 1\n" in text
    assert "\n  param weight[C] = 1 if affine, else 1\n" in text
    assert "\n  param b[C] = 0.5\n" in text


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_binding_has_a_line(name: str) -> None:
    program = PROGRAMS[name]
    lines = program_text(program).split("\n")
    for let in program.body:
        assert f"  {let.name} : {type_text(let.type)} = {op_text(let.op)}" in lines
