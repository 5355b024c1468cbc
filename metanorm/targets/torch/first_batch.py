"""Print the initialization of a norm from its first training batch: `begin_`, and its flag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.initializers import initialization_order
from metanorm.ir.program import Program
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Call,
    Expr,
    ExprStmt,
    Function,
    If,
    Literal,
    Name,
    Parameter,
    Return,
    Stmt,
    Unary,
)
from metanorm.targets.torch.constructor import SELF
from metanorm.targets.torch.function import FunctionPrinter, PrintedFunction, unused_name
from metanorm.targets.torch.layout import call, integer, method
from metanorm.targets.torch.segments import Segments, segments_of_call
from metanorm.targets.torch.signature import Signature

BEGUN = Name("self.has_begun")


class FirstBatch:
    """Prints the methods that initialize a norm from its first batch.

    The flag `has_begun` is a Python attribute, which the `state_dict` has as `_extra_state`. If it
    were a buffer, each call would wait for its device.
    """

    def __init__(
        self, signature: Signature, functions: FunctionPrinter, programs: Mapping[str, Program]
    ) -> None:
        self.program = signature.program
        self.decls = initialization_order(self.program)
        self.functions_by_name: dict[str, PrintedFunction] = {}
        for decl in self.decls:
            program = programs[decl.name]
            doc = f"What `{decl.name}` of `{self.program.name}` takes from its first batch."
            name = signature.names.initializers[decl.name]
            self.functions_by_name[decl.name] = functions.print(name, program, (doc,))

    def demanded(self, inputs: Sequence[str]) -> list[Stmt]:
        """The statements that initialize from this call, if it is the first training call that has
        elements."""
        some = Binary(">", (method(Name(inputs[0]), "numel"), integer(0)))
        first = Binary("and", (Name("self.training"), Unary("not ", BEGUN), some))
        return [If(first, (ExprStmt(call("self.begin_", *map(Name, inputs))),))]

    def _arguments(
        self, printed: PrintedFunction, parameters: Sequence[Parameter], segments: Segments
    ) -> tuple[Expr, ...]:
        """The arguments of a function: what the call gives, and attributes of the module."""
        arguments: dict[str, Expr] = {p.name: Name(p.name) for p in parameters}
        arguments |= segments.arguments
        names = [p.name for p in printed.function.parameters]
        return tuple(arguments.get(name, Name(f"self.{name}")) for name in names)

    def methods(self, parameters: Sequence[Parameter]) -> list[Function]:
        """`begin_`, which takes the arguments of `forward`, and the methods that save the flag."""
        first = parameters[0].name
        segments = segments_of_call(self.program, lambda name: unused_name(name, parameters))
        body: list[Stmt] = [*segments.statements]
        for decl in self.decls:
            printed = self.functions_by_name[decl.name]
            value = Call(
                Name(printed.function.name), self._arguments(printed, parameters, segments)
            )
            body.append(ExprStmt(call("runtime.take_", Name(f"self.{decl.name}"), value)))
        if any(p.low is not None and p.first for p in self.program.params):
            body.append(ExprStmt(call("self.project_")))
        body.append(Assign((BEGUN,), Literal(True)))
        doc = (f"Take from the batch `{first}` what begins with the first one.",)
        state = Parameter("state", "Tensor")
        return [
            Function("begin_", (SELF, *parameters), "None", tuple(body), doc),
            Function(
                "get_extra_state",
                (SELF,),
                "Tensor",
                (Return(call("torch.tensor", BEGUN)),),
                ("Whether the first batch has been, for the `state_dict`.",),
            ),
            Function(
                "set_extra_state",
                (SELF, state),
                "None",
                (Assign((BEGUN,), call("bool", Name("state"))),),
                ("Whether the first batch has been, from a `state_dict`.",),
            ),
        ]
