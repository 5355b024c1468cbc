"""Print the function of a norm, which takes tensors and numbers and needs no module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metanorm.ir.nodes import Buffer, Param
from metanorm.ir.program import Argument, InputDecl, ParamDecl, Program
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    Function,
    If,
    Literal,
    Name,
    Parameter,
    Stmt,
    names_in,
)
from metanorm.targets.torch.body import statements
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.declared_shapes import (
    demand_declared_ranks,
    demand_declared_shapes,
)
from metanorm.targets.torch.exchanges import PROCESSES
from metanorm.targets.torch.layout import call
from metanorm.targets.torch.signature import Signature
from metanorm.targets.torch.sweep_calls import PrintedSweep


@dataclass(frozen=True)
class PrintedFunction:
    """A printed function, and the constructor arguments that it takes."""

    function: Function
    constructor_arguments: tuple[Argument, ...]
    reads_mode: bool


class FunctionPrinter:
    """Prints the functions of one norm. `signature` is that of its class."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.momenta = signature.momenta
        self.read_in_backward: set[str] = set()  # what the stated backward pass is called with
        self.measuring = ""  # the parameter of `check` for whether a call measures its input

    def print(
        self,
        name: str,
        program: Program,
        doc: Sequence[str],
        sweeps: Sequence[PrintedSweep] = (),
    ) -> PrintedFunction:
        """The function of a program: of the norm, of one of its sweeps, or of an initial value."""
        is_main = program is self.signature.program
        read = {let.op for let in program.body}
        params = [p for p in program.params if is_main or Param(p.name) in read]
        stored = {update.buffer for update in program.updates}
        buffers = [
            b for b in program.buffers if is_main or Buffer(b.name) in read or b.name in stored
        ]
        used_names = [a.name for a in program.arguments] + [name, "dtype", "training"]
        used_names += [i.name for i in program.inputs] + [p.name for p in params]
        used_names += [b.name for b in program.buffers]
        used_names += [f"{i.name}_size" for i in self.signature.groups()]
        result = self.signature.names.result if program.target != "backward" else ""
        if program.divided:  # the processes object has the class of the result
            used_names.append(PROCESSES)
            result = f"{PROCESSES}.result"
        used_names += [sweep.function.name for sweep in sweeps]
        body = statements(program, (*used_names, *self.momenta.values()), result, sweeps)
        has_class = is_main and program.target != "sweep"
        if has_class:
            body = (body[0], *demand_declared_shapes(program), *body[1:])
        used = set(names_in(body)) | (self.read_in_backward if is_main else set())
        constructor_arguments = self._passed(program, used)
        parameters = [p for i in program.inputs for p in self.input_parameters(i)]
        parameters += [Parameter(b.name, self.signature.buffer_type(b)) for b in buffers]
        parameters += self._params(params)
        parameters += [Parameter(a.name, self.argument_type(a)) for a in constructor_arguments]
        reads_mode = "training" in used or program.backward is not None  # it holds in training
        if reads_mode:
            parameters.append(Parameter("training", "bool"))
        if is_main:
            parameters += [Parameter(m, "float | Tensor") for m in self.momenta.values()]
        if PROCESSES in used:
            parameters.append(Parameter(PROCESSES, "runtime.Processes"))
        # `None` for a number becomes the epsilon of x, after x is in the dtype of statistics.
        body = (body[0], *self._epsilons(program, constructor_arguments), *body[1:])
        returns = self.signature.returns() if is_main else _returned(program)
        leaf = ("runtime.leaf",) if has_class and not program.divided else ()
        function = Function(name, tuple(parameters), returns, body, tuple(doc), leaf)
        return PrintedFunction(function, constructor_arguments, reads_mode)

    def input_parameters(self, decl: InputDecl, default: Expr | None = None) -> list[Parameter]:
        """The parameters of an input: of the function, or of `forward` if there is a `default`."""
        filled = default is None and isinstance(decl.default, str)  # `forward` puts the default in
        optional = "" if decl.required or filled else " | None"
        parameters = [Parameter(decl.name, f"Tensor{optional}", None if decl.required else default)]
        if decl.has_group_count or (decl.offsets and default is None):
            parameters.append(Parameter(f"{decl.name}_size", "int | None", default))
        return parameters

    def _passed(self, program: Program, used: set[str]) -> tuple[Argument, ...]:
        """The constructor arguments that the function reads."""
        momentum_names = set(self.momenta.values())
        return tuple(
            a for a in program.arguments if a.name in used and a.name not in momentum_names
        )

    def _params(self, params: Sequence[ParamDecl]) -> list[Parameter]:
        return [Parameter(p.name, "Tensor | None" if p.switches else "Tensor") for p in params]

    def check(self, name: str) -> Function:
        """The function that raises for calls that the norm cannot take."""
        program = self.signature.program
        candidates = [p for i in program.inputs for p in self.input_parameters(i)]
        candidates += [Parameter(b.name, self.signature.buffer_type(b)) for b in program.buffers]
        candidates += self._params(program.params)
        candidates += [Parameter(a.name, self.argument_type(a)) for a in program.arguments]
        candidates.append(Parameter("training", "bool"))
        shape, self.measuring = (
            unused_name("shape", candidates),
            unused_name("measuring", candidates),
        )
        candidates.append(Parameter(self.measuring, "bool"))
        checks = CallChecks(program, "", shape, self.measuring)
        ranks: list[Stmt] = []
        if program.for_weights:
            ranks = demand_declared_ranks(program)
            checks.record_parameter_lengths()
        body = (*ranks, *checks.statements())
        used = set(names_in(body))
        parameters = tuple(p for p in candidates if p.name in used)
        doc = (f"Refuse what `{program.name}` cannot take.",)
        leaf = () if program.divided else ("runtime.leaf",)
        return Function(name, parameters, "None", body, doc, leaf)

    def argument_type(self, argument: Argument) -> str:
        """The type of a constructor argument, as functions take it."""
        if argument.type == "matrix":
            return "str | Tensor"
        is_shape = argument in self.signature.shapes()
        return "tuple[int, ...]" if is_shape else self.signature.annotation(argument)

    def _epsilons(self, program: Program, arguments: Sequence[Argument]) -> list[Stmt]:
        """A hyperparameter that is `None` stands for the machine epsilon of the statistics."""
        statements: list[Stmt] = []
        for argument in arguments:
            if self.signature.nullable(argument):
                name, dtype = Name(argument.name), Attribute(Name(program.inputs[0].name), "dtype")
                epsilon = Attribute(call("torch.finfo", dtype), "eps")
                missing = Binary("is", (name, Literal(None)))
                statements.append(If(missing, (Assign((name,), epsilon),)))
        return statements


def _returned(program: Program) -> str:
    """The annotation of what an initial value or a stated backward pass returns."""
    count = len(program.outputs)
    several = f"tuple[{', '.join(['Tensor'] * count)}]" if count else "None"
    return "Tensor" if count == 1 else several


def unused_name(name: str, parameters: Sequence[Parameter]) -> str:
    """A name that no parameter has: this one, or with underscores behind it."""
    while any(parameter.name == name for parameter in parameters):
        name += "_"
    return name
