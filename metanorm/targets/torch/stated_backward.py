"""Print the backward pass that a norm states: a function, and the decorator that hands it over."""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Buffer
from metanorm.ir.program import Backward
from metanorm.targets.python.pyir import Call, Dict, Expr, Function, Literal, Name, Tuple
from metanorm.targets.torch.function import FunctionPrinter

DECORATOR = "runtime.with_backward"


def stated_function(backward: Backward, name: str, printer: FunctionPrinter) -> Function:
    """The function of a stated backward pass. The norm's own function takes what it reads, too."""
    doc = (f"The backward pass of `{printer.signature.program.name}`, as its spec states it.",)
    function = printer.print(name, backward.program, doc).function
    printer.read_in_backward = {parameter.name for parameter in function.parameters}
    return function


def with_decorator(function: Function, backward: Backward, name: str) -> Function:
    """The function of a norm with the decorator that gives it the function called `name`."""
    return replace(function, decorators=(*function.decorators, _decorator(name, backward)))


def _decorator(name: str, backward: Backward) -> Expr:
    """The decorator: whose gradients are stated, and what the function reads besides inputs."""
    program = backward.program
    read = {let.op for let in program.body} | {Buffer(u.buffer) for u in program.updates}
    buffers = [b.name for b in program.buffers if Buffer(b.name) in read]
    parts: dict[str, Expr] = {"of": _texts(backward.inputs), "arriving": _texts(backward.arriving)}
    if buffers:
        parts["buffers"] = _texts(tuple(buffers))
    if backward.saved:
        parts["before"] = Dict(tuple((Literal(b), Literal(n)) for b, n in backward.saved))
    return Call(Name(DECORATOR), (Name(name),), tuple(parts.items()))


def _texts(names: tuple[str, ...]) -> Expr:
    return Tuple(tuple(map(Literal, names)))
