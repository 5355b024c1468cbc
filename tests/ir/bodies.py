"""Small programs for tests of the IR, written by hand."""

from __future__ import annotations

from metanorm.ir.nodes import Axis, Let, Op, Type
from metanorm.ir.program import BufferDecl, InputDecl, ParamDecl, Program, Update
from metanorm.ir.scalar import Const
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of
from metanorm.source import Span

HERE = Span("hand.norm", 0, 0)
AXES = (Axis("N"), Axis("C", size=Const(4)), Axis("S", variadic=True), Axis("D"))
INPUTS = (
    InputDecl("x", "tensor", ("N", "C", "S")),
    InputDecl("label", "index", ("N",)),
    InputDecl("keep", "mask", ("N",)),
)
PARAMS = (ParamDecl("w", ("C",), Const(1)), ParamDecl("gate", ("C",), Const(1), Const(0), Const(1)))
BUFFERS = (BufferDecl("seen", ("C",), Const(0)), BufferDecl("spread", ("C",), Const(1), True))


def typed(ops: dict[str, Op]) -> tuple[Let, ...]:
    """The bindings, each with the type that its operation has."""
    known = Declarations(Space(AXES), INPUTS, PARAMS, BUFFERS)
    types: dict[str, Type] = {}
    for name, op in ops.items():
        types[name] = type_of(op, types, known)
    return tuple(Let(name, op, types[name], HERE) for name, op in ops.items())


def program(body: tuple[Let, ...], output: str = "", updates: tuple[Update, ...] = ()) -> Program:
    """A program with these bindings, of which the last is the result."""
    space = Space(AXES)
    known = Declarations(space, INPUTS, PARAMS, BUFFERS)
    types: dict[str, Type] = {}
    for let in body:  # enters the cell axes
        try:
            types[let.name] = type_of(let.op, types, known)
        except (IllTyped, KeyError):  # a body that is wrong on purpose
            types[let.name] = let.type
    result = output or body[-1].name
    return Program(
        "Hand",
        "activation",
        (),
        tuple(space),
        (),
        INPUTS,
        PARAMS,
        BUFFERS,
        (),
        body,
        (("y", result),),
        updates,
        (),
    )
