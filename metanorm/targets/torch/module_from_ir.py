"""A norm as a module: a class with the face of torch's own layers, and the function it calls."""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.nodes import (
    Argument,
    InputDecl,
    Program,
)
from metanorm.syntax import ast
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Blank,
    Call,
    Class,
    Do,
    Expr,
    Format,
    Function,
    If,
    Literal,
    Name,
    Parameter,
    Return,
    Stmt,
    names_in,
)
from metanorm.targets.torch.body import statements
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.constructor import SELF, Constructor, ordered
from metanorm.targets.torch.describe import class_doc, function_doc
from metanorm.targets.torch.layout import call, integer, method
from metanorm.targets.torch.names import Names
from metanorm.targets.torch.signature import Signature


@dataclass(frozen=True)
class Compiled:
    """A norm at both ends of the compiler: its equations, its program, and that optimised."""

    equations: ast.Norm
    program: Program
    optimised: Program


def definitions(norm: Compiled, names: Names) -> tuple[Stmt, ...]:
    """The class, the type of its result where there are several outputs, and the function."""
    return _Printer(norm, names).definitions()


class _Printer:
    def __init__(self, norm: Compiled, names: Names) -> None:
        self.norm = norm
        self.program = norm.optimised
        self.signature = Signature(self.program, names)
        self.constructor = Constructor(self.signature)
        self.momenta = self.signature.momenta
        self.tracked = self.signature.tracked
        self.function = names.function
        taken = [a.name for a in self.program.arguments] + [self.function, "dtype", "training"]
        taken += [i.name for i in self.program.inputs] + [p.name for p in self.program.params]
        taken += [b.name for b in self.program.buffers]
        taken += [f"{i.name}_size" for i in self.signature.groups()]
        self.body = statements(self.program, (*taken, *self.momenta.values()), names.result)
        self.used = set(names_in(self.body))

    def definitions(self) -> tuple[Stmt, ...]:
        result = self._result_type()
        return (*result, self._class(), self._function())

    def _result_type(self) -> tuple[Stmt, ...]:
        if len(self.program.outputs) == 1:
            return ()
        doc = (f"What `{self.program.name}` returns.",)
        fields = tuple(
            Assign((Name(name),), None, annotation="Tensor") for name, _ in self.program.outputs
        )
        return (Class(self.signature.returns(), "NamedTuple", fields, doc),)

    def _function(self) -> Function:
        parameters = [p for i in self.program.inputs for p in self._input_parameters(i)]
        parameters += [
            Parameter(b.name, self.signature.buffer_type(b)) for b in self.program.buffers
        ]
        parameters += [
            Parameter(p.name, "Tensor | None" if p.switches else "Tensor")
            for p in self.program.params
        ]
        for argument in self._passed():
            is_shape = argument in self.signature.shapes()
            annotation = "tuple[int, ...]" if is_shape else self.signature.annotation(argument)
            matrix = argument.type == "matrix"
            parameters.append(Parameter(argument.name, "str | Tensor" if matrix else annotation))
        if "training" in self.used:
            parameters.append(Parameter("training", "bool"))
        parameters += [Parameter(name, "float | Tensor") for name in self.momenta.values()]
        return Function(
            self.function,
            tuple(parameters),
            self.signature.returns(),
            (self.body[0], *self._epsilons(), *self.body[1:]),  # x is widened first
            function_doc(self.program),
        )

    def _input_parameters(self, decl: InputDecl, default: Expr | None = None) -> list[Parameter]:
        filled = default is None and isinstance(decl.default, str)  # `forward` puts the default in
        optional = "" if decl.required or filled else " | None"
        parameters = [Parameter(decl.name, f"Tensor{optional}", None if decl.required else default)]
        if decl in self.signature.groups():
            parameters.append(Parameter(f"{decl.name}_size", "int | None", default))
        return parameters

    def _passed(self) -> list[Argument]:
        """The constructor arguments that the function reads."""
        own = set(self.momenta.values())
        return [a for a in self.program.arguments if a.name in self.used and a.name not in own]

    def _epsilons(self) -> list[Stmt]:
        """A hyperparameter that is `None` stands for the machine epsilon of the statistics."""
        done: list[Stmt] = []
        for argument in self._passed():
            if self.signature.nullable(argument):
                name, dtype = Name(argument.name), Attribute(Name(self._first()), "dtype")
                epsilon = Attribute(call("torch.finfo", dtype), "eps")
                missing = Binary("is", (name, Literal(None)))
                done.append(If(missing, (Assign((name,), epsilon),)))
        return done

    def _first(self) -> str:
        return self.program.inputs[0].name

    def _class(self) -> Class:
        attributes = self.constructor.attributes()
        body: list[Stmt] = [
            *attributes,
            *([Blank()] if attributes else []),
            self.constructor.init(),
        ]
        if self.signature.has_state():
            body.append(self.constructor.reset())
        if self.tracked:
            body.append(self.constructor.reset_running())
        if any(p.low is not None for p in self.program.params):
            body.append(self.constructor.project())
        body += [self._forward(), self._extra_repr()]
        doc = class_doc(self.norm.equations, self.program)
        return Class(self.program.name, "nn.Module", tuple(body), doc)

    def _forward(self) -> Function:
        inputs = [p for d in self.program.inputs for p in self._input_parameters(d, Literal(None))]
        last = max(i for i, p in enumerate(inputs) if p.default is None)
        sizes = {f"{decl.name}_size" for decl in self.signature.groups()}
        # In the order of the spec: what stands before a required input has no default.
        required = [replace(p, default=None) for p in inputs[:last] if p.name not in sizes]
        optional = [p for p in inputs[:last] if p.name in sizes]
        required, optional = [SELF, *required, inputs[last]], [*optional, *inputs[last + 1 :]]
        checks = CallChecks(self.program, self.signature.names.result)
        body: list[Stmt] = checks.statements()
        body += self._count_batch()
        arguments: list[Expr] = []
        for decl in self.program.inputs:
            arguments.append(Name(decl.name))
            arguments += [Name(f"{decl.name}_size")] if decl in self.signature.groups() else []
        arguments += [Name(f"self.{b.name}") for b in self.program.buffers]
        arguments += [Name(f"self.{p.name}") for p in self.program.params]
        arguments += [
            Name(a.name if a.name in checks.locals else f"self.{a.name}") for a in self._passed()
        ]
        arguments += [Name("self.training")] if "training" in self.used else []
        arguments += [Name(name) for name in self.momenta.values()]
        body.append(Return(Call(Name(self.function), tuple(arguments))))
        doc = (f"Normalize `{self._first()}`.",)
        return Function(
            "forward", (*required, *optional), self.signature.returns(), tuple(body), doc
        )

    def _count_batch(self) -> list[Stmt]:
        if not self.momenta:
            return []
        done: list[Stmt] = []
        counter = Name("self.num_batches_tracked")
        inner: list[Stmt] = [Do(method(counter, "add_", integer(1)))]
        for scalar, name in self.momenta.items():
            done.append(Assign((Name(name),), Literal(0.0), annotation="float | Tensor"))
            value = Literal(None) if scalar is None else self.constructor.scalar(scalar)
            inner.append(Assign((Name(name),), call("runtime.momentum_of", value, counter)))
        seen = Binary("is not", (counter, Literal(None)))
        return [*done, If(Binary("and", (Name("self.training"), seen)), tuple(inner))]

    def _extra_repr(self) -> Function:
        parts: list[str | Expr] = []
        named = [a.name for a in self.program.arguments if not a.required and a.type != "size"]
        named += [s.name for s in ordered(self.program.switches) if s.name != "bias"]
        plain = [a for a in self.program.arguments if a.name not in named]
        for argument in plain:
            parts += [", "] if parts else []
            parts.append(Name(f"self.{argument.name}"))
        for name in named:
            parts += [f"{', ' if parts else ''}{name}=", Name(f"self.{name}")]
        value = Format(tuple(parts)) if parts else Literal("")
        doc = ("The arguments of the constructor.",)
        return Function("extra_repr", (SELF,), "str", (Return(value),), doc)
