"""Print the Python function that computes the lengths and numbers of a call on the host."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.ir.aggregation import Reach
from metanorm.ir.nodes import AxisMap, Link, Number, Op
from metanorm.ir.program import Program
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, scalar_text
from metanorm.nest.arguments import dimensions, size_argument_dims
from metanorm.nest.statements import reach_of
from metanorm.targets.python.pyir import (
    Dict,
    Expr,
    Function,
    Literal,
    Name,
    Parameter,
    Return,
    Subscript,
)
from metanorm.targets.python.scalars import SCALAR_FUNCTIONS
from metanorm.targets.triton.terms import ONE, call, number, times


def numbers_function(name: str, program: Program) -> Function:
    """The function from lengths of dimensions and hyperparameters to the numbers of all kernels."""
    entries: dict[str, Expr] = {}
    printer = _Printer(program)
    for axis in program.axes:
        has_length = axis.cells_of is None and axis.name not in printer.tensor_dims
        if has_length and (axis.size is not None or axis.parts):
            entries.setdefault(f"size {axis.name}", printer.length(axis.name))
    for let in program.body:
        for key, scalar in scan_numbers(let.op):
            entries.setdefault(key, printer.scalar(scalar))
        if isinstance(let.op, AxisMap) and (argument := let.op.argument) is not None:
            entries.setdefault(argument_key(argument), call("float", printer.scalar(argument)))
        if isinstance(let.op, Number) and not isinstance(let.op.value, Const):
            entries.setdefault(f"number {scalar_text(let.op.value)}", printer.scalar(let.op.value))
    pairs = tuple((Literal(key), value) for key, value in entries.items())
    parameters = (Parameter("size", "dict[str, int]"), Parameter("given", "dict[str, float]"))
    doc = ("Lengths and numbers, from the lengths of dimensions and the hyperparameters.",)
    body = (Return(Dict(pairs)),)
    return Function(f"{name}_numbers", parameters, "dict[str, float]", body, doc)


def reach_key(distance: Scalar) -> str:
    """The key of how many positions a pool reaches back or ahead."""
    return f"reach {scalar_text(distance)}"


def width_of(reach: Reach) -> Scalar | None:
    """How many positions are within reach; `None` where it extends to the border."""
    if reach.back is None or reach.ahead is None:
        return None
    return Apply("add", (Apply("add", (reach.back, reach.ahead)), Const(1)))


def width_key(width: Scalar) -> str:
    """The key of how many positions are within reach."""
    return f"width {scalar_text(width)}"


def argument_key(argument: Scalar) -> str:
    """The key of a number that a kernel is not compiled for, since it may change in training."""
    return f"argument {scalar_text(argument)}"


def links_key(link: Link, into: bool, part: str) -> str:
    """The key of an array of an edge list that is sorted by targets, or else by sources."""
    return f"links {link.edges} {int(link.loop)} {'into' if into else 'out'} {part}"


def degree_key(link: Link) -> str:
    """The key of the number of edges of a node, on average."""
    return f"degree {link.edges}"


def scan_numbers(op: Op) -> Iterator[tuple[str, Scalar]]:
    """The numbers that a scan needs: how far its pools reach, and over how many positions."""
    scan = reach_of(op)
    if scan is None:
        return
    _, reach = scan
    for end in (reach.back, reach.ahead):
        if end is not None and not isinstance(end, Const):
            yield reach_key(end), end
    if (width := width_of(reach)) is not None:
        yield width_key(width), width


class _Printer:
    def __init__(self, program: Program) -> None:
        self.space = program.index.space
        self.tensor_dims = dimensions(program)
        self.size_argument_dims = size_argument_dims(program)

    def length(self, axis: str) -> Expr:
        """The length of an axis: that of a tensor, its formula, or the product of its parts."""
        declared = self.space[axis]
        if axis in self.tensor_dims:
            return Subscript(Name("size"), (Literal(axis),))
        if declared.size is not None:
            return self.scalar(declared.size)
        result: Expr = ONE
        for part in declared.parts:
            result = times(result, self.length(part))
        return result

    def scalar(self, scalar: Scalar) -> Expr:
        """A number."""
        match scalar:
            case Const(value):
                return number(value)
            case Hyper(name) if name in self.size_argument_dims:
                return self.length(self.size_argument_dims[name])
            case Hyper(name):
                return Subscript(Name("given"), (Literal(name),))
            case SizeOf(axis):
                return self.length(axis)
            case Apply(function, arguments):
                expr = SCALAR_FUNCTIONS[function](*map(self.scalar, arguments))
                # An int would compile another kernel.
                return call("float", expr) if function in ("floor", "ceil") else expr
