"""A norm as a module: a class with the face of torch's own layers, and the function it calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.momenta import counts_batches, flag_alone_decides
from metanorm.ir.nodes import Program
from metanorm.ir.scalar import Scalar
from metanorm.syntax import ast
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Blank,
    Call,
    Class,
    Do,
    Expr,
    Format,
    Function,
    If,
    IfElse,
    List,
    Literal,
    Name,
    Return,
    Stmt,
    Unary,
    paths_in,
    renamed,
)
from metanorm.targets.torch.base import Base
from metanorm.targets.torch.beginning import Beginning
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.constructor import SELF, Constructor, ordered
from metanorm.targets.torch.describe import class_doc, function_doc
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.kinds import fewest_dims, kind_of
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.names import Names
from metanorm.targets.torch.signature import Signature


@dataclass(frozen=True)
class Compiled:
    """A norm at both ends of the compiler: its equations, its program, and that optimised.

    `beginnings` are the optimised programs for what its parameters begin with, by their names;
    `base` is the layer of torch that it provably is.
    """

    equations: ast.Norm
    program: Program
    optimised: Program
    beginnings: Mapping[str, Program] = field(default_factory=dict)
    base: Base | None = None


def definitions(norm: Compiled, names: Names) -> tuple[Stmt, ...]:
    """The class, the type of its result where there are several outputs, and the function."""
    return _Printer(norm, names).definitions()


class _Printer:
    def __init__(self, norm: Compiled, names: Names) -> None:
        self.norm = norm
        self.program = norm.optimised
        self.kind = kind_of(norm.program)
        self.signature = Signature(self.program, names)
        self.base = norm.base
        self.constructor = Constructor(self.signature, norm.base)
        self.momenta = self.signature.momenta
        self.tracked = self.signature.tracked
        self.functions = FunctionPrinter(self.signature)
        self.check = self.functions.check(names.check)
        self.own = self.functions.printed(names.function, self.program, function_doc(self.program))
        self.beginning: Beginning | None = None
        if self.program.target == "weight" and self.signature.has_state():
            self.beginning = Beginning(
                self.signature, self.constructor, self.functions, norm.beginnings
            )

    def definitions(self) -> tuple[Stmt, ...]:
        result = self._result_type()
        others = self.beginning.printed.values() if self.beginning else ()
        return (
            *result,
            self._class(),
            self.check,
            self.own.function,
            *(p.function for p in others),
        )

    def _result_type(self) -> tuple[Stmt, ...]:
        if len(self.program.outputs) == 1:
            return ()
        doc = (f"What `{self.program.name}` returns.",)
        fields = tuple(
            Assign((Name(name),), None, annotation="Tensor") for name, _ in self.program.outputs
        )
        known = Do(call("runtime.register_output", Name(self.signature.returns())))
        return (Class(self.signature.returns(), "NamedTuple", fields, doc), known)

    def _first(self) -> str:
        return self.program.inputs[0].name

    def _class(self) -> Class:
        attributes = self.constructor.attributes()
        if self.program.target == "gradient":
            number = integer(fewest_dims(self.norm.program))
            attributes.append(Assign((Name("fewest_dims"),), number))
        body: list[Stmt] = [
            *attributes,
            *([Blank()] if attributes else []),
            self.constructor.init(),
        ]
        if self.base is None:  # else they are the base's, as are the values that they set
            body += self._resets()
        if any(p.low is not None for p in self.program.params):
            body.append(self.constructor.project())
        body.append(self._forward())
        if self.beginning is not None:
            body.append(self.beginning.right_inverse())
        if self.base is None or not self.base.is_plain:
            body.append(self._extra_repr())
        doc = class_doc(self.norm.equations, self.program, self.kind.usage)
        base = self.base.name if self.base else self.kind.base
        return Class(self.program.name, base, tuple(body), doc)

    def _resets(self) -> list[Stmt]:
        made = [self.constructor.reset()] if self.signature.makes_state() else []
        return [*made, *([self.constructor.reset_running()] if self.tracked else [])]

    def _forward(self) -> Function:
        inputs = [
            p
            for d in self.program.inputs
            for p in self.functions.input_parameters(d, Literal(None))
        ]
        last = max(i for i, p in enumerate(inputs) if p.default is None)
        sizes = {f"{decl.name}_size" for decl in self.signature.groups()}
        # In the order of the spec: what stands before a required input has no default.
        required = [replace(p, default=None) for p in inputs[:last] if p.name not in sizes]
        optional = [p for p in inputs[:last] if p.name in sizes]
        required, optional = [SELF, *required, inputs[last]], [*optional, *inputs[last + 1 :]]
        inner = [p.name for p in (*required[1:], *optional)]
        body = self._node(inner)
        checks = CallChecks(self.program)
        body += checks.defaults()
        if self.beginning is not None:
            body += self.beginning.demanded()
        start = len(body)
        checks.shapes()  # which finds out where lengths can be read
        idle = checks.idle()
        body += [s for statements in idle.values() for s in statements]
        kept, counter = Name(self._local("kept")), Name(self._local("counter"))
        running = {b.name for b in self.tracked}
        momenta = {name: momentum for momentum, name in self.momenta.items()}

        def given(name: str) -> Expr:
            if name == self.functions.measuring:
                return checks.measuring()
            return Name(name if name in inner or name in idle else f"self.{name}")

        def passed(name: str) -> Expr:
            if name in momenta:
                return self._momentum(momenta[name], counter)
            return IfElse(kept, given(name), Literal(None)) if name in running else given(name)

        check, function = self.check, self.own.function
        arguments = tuple(given(p.name) for p in check.parameters)
        body.append(Do(Call(Name(check.name), arguments)))
        if running:
            used: Expr = Name("self.track_running_stats")
            if not flag_alone_decides(self.program):
                used = Binary("or", (used, Unary("not ", Name("self.training"))))
            body.append(Assign((kept,), used))
        counts = counts_batches(self.program)
        if counts:
            body.append(Assign((counter,), call("runtime.counter_of", Name("self"))))
        result: Expr = Call(Name(function.name), tuple(passed(p.name) for p in function.parameters))
        if counts:  # once nothing can fail any more
            name = Name(self._local("result"))
            count = call("runtime.count_batch", counter, Name(self._first()))
            body += [Assign((name,), result), Do(count)]
            result = name
        body.append(Return(result))
        body[start:] = self._reading_once(body[start:])
        parameters = (*required, *optional)
        doc = (self.kind.gives,)
        return Function("forward", parameters, self.signature.returns(), tuple(body), doc)

    def _reading_once(self, body: list[Stmt]) -> list[Stmt]:
        """The statements, with parameters and buffers as variables: an attribute of a module that
        is one of them takes torch a microsecond."""
        used = set(paths_in(tuple(body)))
        state = [p.name for p in self.program.params] + [b.name for b in self.program.buffers]
        local = {name: self._local(name) for name in state if f"self.{name}" in used}
        if not local:
            return body
        value = call("runtime.tensors_of", Name("self"), *map(Literal, local))
        targets = tuple(map(Name, local.values()))
        names = {f"self.{name}": variable for name, variable in local.items()}
        read = Assign((List(targets),) if len(targets) == 1 else targets, value)
        return [read, *renamed(tuple(body), names)]

    def _node(self, inputs: Sequence[str]) -> list[Stmt]:
        """Calls that the runtime answers: by torch.fx, by torch.jit.trace, with nested tensors."""
        names = tuple(map(Name, inputs))
        part = call("runtime.has_override", Name("self"), Name(self._first()))
        node = call("runtime.handle_override", Name("self.forward"), *names)
        return [If(part, (Return(node),))]

    def _momentum(self, momentum: Scalar | None, counter: Name) -> Expr:
        value = Literal(None) if momentum is None else self.constructor.scalar(momentum)
        # As in torch, `None` keeps what there is where nothing is counted.
        given = counter if counts_batches(self.program) else Literal(None)
        return call("runtime.momentum_of", value, given)

    def _local(self, name: str) -> str:
        """A name for a variable of `forward`, which inputs may have taken."""
        taken = {p.name for d in self.program.inputs for p in self.functions.input_parameters(d)}
        taken |= {a.name for a in self.program.arguments}
        taken |= {self.check.name, self.own.function.name}
        while name in taken:
            name += "_"
        return name

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
