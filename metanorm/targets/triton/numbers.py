"""Numbers that are known before any tensor is looked at, as plain Python."""

from __future__ import annotations

from metanorm.ir.nodes import Number, Program
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, scalar_text
from metanorm.nest.arguments import asked, dimensions
from metanorm.targets.python.pyir import (
    Binary,
    Dict,
    Expr,
    Function,
    Literal,
    Name,
    Parameter,
    Return,
    Subscript,
    Unary,
)
from metanorm.targets.triton.terms import ONE, call, number, times

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "pow": "**"}
BUILT_IN = ("abs", "min", "max")


def numbers(name: str, program: Program) -> Function:
    """A function from the lengths of dimensions and hyperparameters to all that kernels read."""
    found: dict[str, Expr] = {}
    printer = _Printer(program)
    for axis in program.axes:
        known = axis.cells_of is None and axis.name not in printer.told
        if known and (axis.size is not None or axis.parts):
            found.setdefault(f"size {axis.name}", printer.length(axis.name))
    for let in program.body:
        if isinstance(let.op, Number) and not isinstance(let.op.value, Const):
            found.setdefault(f"number {scalar_text(let.op.value)}", printer.scalar(let.op.value))
    pairs = tuple((Literal(key), value) for key, value in found.items())
    parameters = (Parameter("size", "dict[str, int]"), Parameter("given", "dict[str, float]"))
    doc = ("Lengths and numbers, from the lengths of dimensions and the hyperparameters.",)
    body = (Return(Dict(pairs)),)
    return Function(f"{name}_numbers", parameters, "dict[str, float]", body, doc)


class _Printer:
    def __init__(self, program: Program) -> None:
        self.space = program.index.space
        self.told = dimensions(program)
        self.asked = asked(program)

    def length(self, axis: str) -> Expr:
        """The length of an axis: as a tensor tells, as its formula says, or that of its parts."""
        own = self.space[axis]
        if axis in self.told:
            return Subscript(Name("size"), (Literal(axis),))
        if own.size is not None:
            return self.scalar(own.size)
        result: Expr = ONE
        for part in own.parts:
            result = times(result, self.length(part))
        return result

    def scalar(self, scalar: Scalar) -> Expr:
        """A number."""
        match scalar:
            case Const(value):
                return number(value)
            case Hyper(name) if name in self.asked:
                return self.length(self.asked[name])
            case Hyper(name):
                return Subscript(Name("given"), (Literal(name),))
            case SizeOf(axis):
                return self.length(axis)
            case Apply("neg", (argument,)):
                return Unary("-", self.scalar(argument))
            case Apply("floor" | "ceil" as function, (argument,)):  # an int is another kernel
                return call("float", call(f"math.{function}", self.scalar(argument)))
            case Apply(function, arguments):
                parts = [self.scalar(a) for a in arguments]
                if function in SYMBOLS:
                    return Binary(SYMBOLS[function], tuple(parts))
                known = function if function in BUILT_IN else f"math.{function}"
                return call(known, *parts)
