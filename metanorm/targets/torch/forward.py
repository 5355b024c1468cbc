"""The method that is called: from what a module has to the function of its norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from metanorm.ir.momenta import counts_batches, flag_alone_decides
from metanorm.ir.scalar import Const, Scalar
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Call,
    Do,
    Expr,
    Function,
    IfElse,
    List,
    Literal,
    Name,
    Parameter,
    Return,
    Stmt,
    Unary,
    paths_in,
    renamed,
)
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.constructor import Constructor
from metanorm.targets.torch.function import FunctionPrinter, Printed
from metanorm.targets.torch.layout import call


class ForwardPrinter:
    """Prints `forward` of one norm; `check` and `own` are the functions that it calls."""

    def __init__(
        self, functions: FunctionPrinter, constructor: Constructor, check: Function, own: Printed
    ) -> None:
        self.functions = functions
        self.signature = functions.signature
        self.program = self.signature.program
        self.momenta = self.signature.momenta
        self.constructor = constructor
        self.check = check
        self.own = own

    def inputs(self) -> list[Parameter]:
        """The parameters of `forward`, in the order of the spec: what stands before a required
        input has no default."""
        inputs = [
            p
            for d in self.program.inputs
            for p in self.functions.input_parameters(d, Literal(None))
        ]
        last = max(i for i, p in enumerate(inputs) if p.default is None)
        sizes = {f"{decl.name}_size" for decl in self.signature.groups()}
        required = [replace(p, default=None) for p in inputs[:last] if p.name not in sizes]
        optional = [p for p in inputs[:last] if p.name in sizes]
        return [*required, inputs[last], *optional, *inputs[last + 1 :]]

    def printed(
        self,
        name: str,
        first: Sequence[Parameter],
        before: Sequence[Stmt],
        demanded: Sequence[Stmt],
        doc: Sequence[str],
        shares: Mapping[str, Expr] = {},
        checked: Sequence[Stmt] = (),
    ) -> Function:
        """The function, called `name`, with the parameters `first` in front of the inputs.

        It begins with the statements `before`; `demanded` follow once defaults are filled in, and
        `checked` once the call is known to be one that the norm can take.
        `shares` are expressions for arguments of the constructor of which a process has a share.
        """
        inputs = self.inputs()
        inner = [p.name for p in inputs]
        body = list(before)
        checks = CallChecks(self.program)
        body += checks.defaults()
        body += demanded
        start = len(body)
        checks.shapes()  # which finds out where lengths can be read
        idle = checks.idle()
        body += [s for statements in idle.values() for s in statements]
        kept, counter = Name(self._local("kept")), Name(self._local("counter"))
        running = {b.name for b in self.signature.tracked}
        momenta = {name: momentum for momentum, name in self.momenta.items()}

        def given(name: str) -> Expr:
            if name == self.functions.measuring:
                return checks.measuring()
            if name in shares:
                return shares[name]
            own = name in inner or name in idle or name in {p.name for p in first}
            return Name(name if own else f"self.{name}")

        def passed(name: str) -> Expr:
            if name in momenta:
                return self._momentum(momenta[name], counter)
            return IfElse(kept, given(name), Literal(None)) if name in running else given(name)

        check, function = self.check, self.own.function
        arguments = tuple(given(p.name) for p in check.parameters)
        body += [Do(Call(Name(check.name), arguments)), *checked]
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
            output = Name(self._local("result"))
            count = call("runtime.count_batch", counter, Name(self.program.inputs[0].name))
            body += [Assign((output,), result), Do(count)]
            result = output
        body.append(Return(result))
        body[start:] = self._reading_once(body[start:])
        parameters = (*first, *inputs)
        return Function(name, parameters, self.signature.returns(), tuple(body), tuple(doc))

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

    def _momentum(self, momentum: Scalar | None, counter: Name) -> Expr:
        if momentum == Const(1.0):  # what arrives replaces the statistic, also in an average of all
            return Literal(1.0)
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
