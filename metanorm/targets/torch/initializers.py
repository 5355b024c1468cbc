"""Print how a norm for weights is initialized: `right_inverse`, and functions of initial values."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.ir.initializers import shared_draws
from metanorm.ir.nodes import Buffer, Draw, Eye
from metanorm.ir.program import BufferDecl, ParamDecl, Program
from metanorm.ir.scalar import Const
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
    Starred,
    Stmt,
)
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.constructor import SELF, Constructor
from metanorm.targets.torch.function import FunctionPrinter, PrintedFunction
from metanorm.targets.torch.layout import call, method
from metanorm.targets.torch.signature import Signature

BEGIN_STATE = "begin_state"
BEGIN_STATE_DOC = "Set every buffer to what it is at first, for tensors of this shape."


class WeightInitializer:
    """Prints the initialization of a norm for weights, gradients or steps.

    torch calls `right_inverse` when a norm is registered on a weight, and when the weight is
    assigned. What is kept of gradients or steps begins in `begin_state`, in a first call, and is
    in the dtype of statistics: a moving average in half precision would stand still.
    """

    def __init__(
        self,
        signature: Signature,
        constructor: Constructor,
        functions: FunctionPrinter,
        programs: Mapping[str, Program],
    ) -> None:
        self.signature = signature
        self.constructor = constructor
        self.program = signature.program
        self.weight = self.program.inputs[0].name
        self.is_parametrization = self.program.target == "weight"
        self.functions_by_name: dict[
            str, PrintedFunction
        ] = {}  # by the name of what they initialize
        self.read_buffers: dict[str, list[str]] = {}  # the buffers that each initializer reads
        self.shared_draws_by_name: dict[
            str, list[str]
        ] = {}  # random numbers that several initializers share
        for name, program in programs.items():
            function_name = signature.names.initializers[name]
            doc = f"What `{name}` of `{self.program.name}` is at first, on a weight."
            read = {let.op for let in program.body}
            self.shared_draws_by_name[name] = [
                i.name for i in program.inputs[len(self.program.inputs) :]
            ]
            self.read_buffers[name] = [b.name for b in program.buffers if Buffer(b.name) in read]
            self.functions_by_name[name] = functions.print(function_name, program, (doc,))

    def method(self) -> Function:
        """The method, which sets every parameter and buffer. `right_inverse` returns the weight
        unchanged."""
        checks = CallChecks(self.program)
        body = checks.shapes()
        inputs = [decl.name for decl in self.program.inputs]
        if not self.is_parametrization:
            body += [Assign((Name(n),), self._detached(n)) for n in inputs]
        for draw, decl in shared_draws(self.program).items():
            if isinstance(draw, Draw):
                wide = self._detached(self.weight)
                drawn = self._drawn(wide, draw, checks.shape(decl.dims), checks)
                body.append(Assign((Name(decl.name),), drawn))
        body += [self._param(param, checks) for param in self.program.params]
        body += [self._buffer(buffer, checks) for buffer in self.program.buffers]
        if any(p.low is not None for p in self.program.params):
            body.append(ExprStmt(call("self.project_")))
        parameters = (SELF, *(Parameter(name, "Tensor") for name in inputs))
        if not self.is_parametrization:
            return Function(BEGIN_STATE, parameters, "None", tuple(body), (BEGIN_STATE_DOC,))
        body.append(Return(Name(self.weight)))
        doc = ("Set every parameter to what it is at first on a weight, which stays as it is.",)
        return Function("right_inverse", parameters, "Tensor", tuple(body), doc)

    def _detached(self, name: str) -> Expr:
        return call("runtime.widened", method(Name(name), "detach"))

    def demanded(self) -> list[Stmt]:
        """The statements that initialize from the first call's weight, if torch has not done so."""
        state_names = [p.name for p in self.program.params if not p.switches]
        state_names += [b.name for b in self.program.buffers]
        name = Name(f"self.{(state_names or [self.program.params[0].name])[0]}")
        inputs = (Name(decl.name) for decl in self.program.inputs)
        begin = ExprStmt(
            call("self.right_inverse", Name(self.weight))
            if self.is_parametrization
            else call(f"self.{BEGIN_STATE}", *inputs)
        )
        return [If(call("runtime.waits", name), (begin,))]

    def _param(self, param: ParamDecl, checks: CallChecks) -> Stmt:
        parameter, weight = Name(f"self.{param.name}"), Name(self.weight)
        initialize = ExprStmt(
            call("runtime.begin_", parameter, self._first(param, weight, checks), weight)
        )
        return (
            If(Binary("is not", (parameter, Literal(None))), (initialize,))
            if param.switches
            else initialize
        )

    def _buffer(self, buffer: BufferDecl, checks: CallChecks) -> Stmt:
        name = Name(self.weight)
        weight = method(name, "detach") if self.is_parametrization else name
        first = self._first(buffer, weight, checks)
        if buffer.name in self.functions_by_name:  # it may be a view of the weight, which changes
            first = method(first, "clone")
        return Assign((Name(f"self.{buffer.name}"),), first)

    def _first(self, decl: ParamDecl | BufferDecl, weight: Expr, checks: CallChecks) -> Expr:
        """The initial value of a parameter or a buffer."""
        printed = self.functions_by_name.get(decl.name)
        if printed is None:
            return self._filled(decl, checks)
        state_names = (
            *self.read_buffers[decl.name],
            *(a.name for a in printed.constructor_arguments),
        )
        drawn = (Name(name) for name in self.shared_draws_by_name[decl.name])
        further = (Name(decl.name) for decl in self.program.inputs[1:])
        arguments = (weight, *further, *drawn, *(Name(f"self.{n}") for n in state_names))
        return Call(Name(printed.function.name), arguments)

    def _filled(self, decl: ParamDecl | BufferDecl, checks: CallChecks) -> Expr:
        """A tensor of the weight's dtype, filled with one number or with random numbers."""
        shape, weight = checks.shape(decl.dims), Name(self.weight)
        only = shape.items[0] if len(decl.dims) == 1 else shape
        size = only.value if isinstance(only, Starred) else only
        if isinstance(decl.init, Draw):
            return self._drawn(weight, decl.init, size, checks)
        constructors = {0.0: "new_zeros", 1.0: "new_ones"}
        if isinstance(decl.init, Eye):
            return call("runtime.eye_", method(weight, "new_empty", size))
        if isinstance(decl.init, Const) and decl.init.value in constructors:
            return method(weight, constructors[decl.init.value], size)
        return method(weight, "new_full", shape, checks.number(decl.init))

    def _drawn(self, like: Expr, draw: Draw, size: Expr, checks: CallChecks) -> Expr:
        """Random numbers in a shape, of the dtype of `like`."""
        numbers = [checks.number(a) for a in draw.arguments]
        return method(method(like, "new_empty", size), f"{draw.distribution}_", *numbers)
