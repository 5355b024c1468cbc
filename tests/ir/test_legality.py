"""What `verify` refuses: programs that no pass may build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from bodies import HERE, program, typed

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Input, Let, Lookup, Map, Mode, Number, Op, Pool, Repeat, Type
from metanorm.ir.operands import operands
from metanorm.ir.program import Program, Update
from metanorm.ir.scalar import Const
from metanorm.ir.verify import IllegalProgram, verify

OVER_C = (("C", Ones()),)
GOOD = program(
    typed(
        {
            "x": Input("x"),
            "m": Pool("mean", "x", OVER_C),
            "y": Map("sub", ("x", "m")),
            "z": Map("sqrt", ("y",)),
        }
    ),
    updates=(Update("seen", "m"),),
)


def test_a_good_program_passes() -> None:
    verify(GOOD)


def with_let(position: int, **changes: object) -> Program:
    """The good program with one binding changed."""
    body = list(GOOD.body)
    body[position] = replace(body[position], **changes)  # type: ignore[arg-type]
    return replace(GOOD, body=tuple(body))


def reordered(*order: int) -> Program:
    return replace(GOOD, body=tuple(GOOD.body[i] for i in order))


BROKEN: dict[str, tuple[Callable[[], Program], str]] = {
    "a name that is nowhere": (
        lambda: with_let(2, op=Map("sub", ("x", "nobody"))),
        "y reads nobody, which is not defined before it",
    ),
    "use before definition": (
        lambda: reordered(0, 2, 1, 3),
        "y reads m, which is not defined before it",
    ),
    "a value of itself": (
        lambda: with_let(3, op=Map("sqrt", ("z",))),
        "z reads z, which is not defined before it",
    ),
    "a name twice": (lambda: with_let(2, name="m"), "m is defined twice"),
    "axes that it does not have": (
        lambda: with_let(1, type=Type("real", ("N",))),
        "m is declared .*, but is .*",
    ),
    "another kind": (
        lambda: with_let(2, type=Type("bool", ("N", "C", "S"))),
        "y is declared .*bool.*, but is .*real",
    ),
    "axes in another order": (
        lambda: with_let(0, type=Type("real", ("C", "N", "S"))),
        "x is declared",
    ),
    "an operation without a type": (
        lambda: with_let(1, op=Pool("mean", "x", ())),
        "m: a pool over nothing",
    ),
    "an unknown function": (lambda: with_let(3, op=Map("cube", ("y",))), "z: cube with"),
    "an input that is not declared": (lambda: with_let(0, op=Input("w")), "x: 'w'"),
    "an axis that is not declared": (
        lambda: with_let(1, op=Pool("mean", "x", (("Q", Ones()),))),
        "m: ",
    ),
    "an output of nothing": (
        lambda: replace(GOOD, outputs=(("y", "nobody"),)),
        "Hand: nobody is not defined",
    ),
    "no output": (lambda: replace(GOOD, outputs=()), "Hand: no output"),
    "an update of no buffer": (
        lambda: replace(GOOD, updates=(Update("w", "m"),)),
        "Hand: no buffer w",
    ),
    "an update from nothing": (
        lambda: replace(GOOD, updates=(Update("seen", "nobody"),)),
        "Hand: nobody is not defined",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken(what: str) -> None:
    build, why = BROKEN[what]
    with pytest.raises(IllegalProgram, match=why):
        verify(build())


def repeating(body: dict[str, Op], result: str) -> Program:
    """A repeat whose body begins with %s = x."""
    types = {"%s": Type("real", ("N", "C", "S"))}
    inner = tuple(
        Let(name, op, Type("real", ("N",)) if isinstance(op, Pool) else types["%s"], HERE)
        for name, op in body.items()
    )
    (x,) = typed({"x": Input("x")})
    repeat = Repeat(Const(3), ("%s",), ("x",), inner, (result,), 0)
    return program((x, Let("y", repeat, x.type, HERE)))


def test_a_repeat_is_checked_inside() -> None:
    verify(repeating({"%t": Map("tanh", ("%s",))}, "%t"))
    with pytest.raises(IllegalProgram, match="y reads nobody"):
        verify(repeating({"%t": Map("tanh", ("nobody",))}, "%t"))


def test_a_repeat_ends_as_it_began() -> None:
    with pytest.raises(IllegalProgram, match="%t is not what it began as"):
        verify(repeating({"%t": Pool("mean", "%s", (("C", Ones()), ("S", Ones())))}, "%t"))


def test_names_inside_a_repeat_are_unknown_outside() -> None:
    inside = repeating({"%t": Map("tanh", ("%s",))}, "%t")
    with pytest.raises(IllegalProgram, match="%t is not defined"):
        verify(replace(inside, outputs=(("y", "%t"),)))


OPERANDS: list[tuple[Op, tuple[str, ...]]] = [
    (Number(Const(1)), ()),
    (Map("add", ("a", "b")), ("a", "b")),
    (Pool("second", "a", OVER_C, "b", "c", "d"), ("a", "b", "c", "d")),
    (Lookup("a", "C", 0), ("a",)),
    (Lookup("a", "C", "b"), ("a", "b")),
    (Mode("a", "b", "running"), ("a", "b")),
    (
        Repeat(
            Const(2),
            ("%s",),
            ("a",),
            (Let("%t", Map("add", ("%s", "b")), Type("real"), HERE),),
            ("%t",),
            0,
        ),
        ("a", "b"),
    ),
]


@pytest.mark.parametrize(("op", "read"), OPERANDS)
def test_operands_are_what_an_operation_reads_from_outside(op: Op, read: tuple[str, ...]) -> None:
    assert operands(op) == read
