"""Print entries: further methods of a class, each with a function of its own."""

from __future__ import annotations

from metanorm.ir.nodes import AxisMap, Concat, Lookup, Piece, Pool, Position, Recurrence
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.syntax import ast
from metanorm.targets.python.pyir import Assign, Class, ExprStmt, Function, Literal, Name, Stmt
from metanorm.targets.torch.base import TorchBase
from metanorm.targets.torch.constructor import SELF, Constructor
from metanorm.targets.torch.describe import entry_doc, function_doc
from metanorm.targets.torch.forward import ForwardPrinter
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.layout import call
from metanorm.targets.torch.names import NormNames
from metanorm.targets.torch.signature import Signature

# Operations that need the whole of an axis, of which a process may have a piece.
NONLOCAL = (Pool, AxisMap, Recurrence, Lookup, Position, Piece, Concat)


class EntryPrinter:
    """Prints one entry: its method, and the functions that the method calls."""

    def __init__(
        self, equations: ast.Norm, program: Program, names: NormNames, base: TorchBase | None
    ) -> None:
        self.equations, self.program = equations, program
        self.signature = Signature(program, names)
        self.printer = FunctionPrinter(self.signature)
        self.check = self.printer.check(names.check)
        self.function = self.printer.print(names.function, program, function_doc(program))
        self.constructor = Constructor(self.signature, base)

    def method(self) -> Function:
        """The method, which calls the function with the state of the module."""
        forward = ForwardPrinter(self.printer, self.constructor, self.check, self.function)
        before: list[Stmt] = []
        if any(isinstance(let.op, NONLOCAL) for let in every_let(self.program.body)):
            name = Literal(self.program.method)
            before.append(ExprStmt(call("runtime.demand_alone", Name("self"), name)))
        doc = entry_doc(self.equations, self.program)
        return forward.print(self.program.method, (SELF,), before, (), doc)

    def functions(self) -> tuple[Function, Function]:
        """The check of a call, and the function behind the method."""
        return self.check, self.function.function

    def result_type(self) -> tuple[Stmt, ...]:
        """The class of several results; empty for a single one."""
        return result_type(self.program, self.signature)


def result_type(program: Program, signature: Signature) -> tuple[Stmt, ...]:
    """The class of the results of a program; empty for a single one."""
    if len(program.outputs) == 1:
        return ()
    doc = (f"What `{program.name}` returns.",)
    fields = tuple(Assign((Name(name),), None, annotation="Tensor") for name, _ in program.outputs)
    register = ExprStmt(call("runtime.register_output", Name(signature.returns())))
    return (Class(signature.returns(), "NamedTuple", fields, doc), register)
