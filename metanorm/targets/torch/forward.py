"""Print `forward`: the method that calls the function of a norm with the module's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from metanorm.ir.momenta import counts_batches, flag_alone_decides
from metanorm.ir.program import InputDecl
from metanorm.ir.scalar import Const, Scalar
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Call,
    Expr,
    ExprStmt,
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
from metanorm.targets.torch.function import FunctionPrinter, PrintedFunction
from metanorm.targets.torch.layout import call
from metanorm.targets.torch.segments import segments_of_call


class ForwardPrinter:
    """Prints `forward` of one norm. `check` and `function` are the functions that it calls."""

    def __init__(
        self,
        functions: FunctionPrinter,
        constructor: Constructor,
        check: Function,
        function: PrintedFunction,
    ) -> None:
        self.functions = functions
        self.signature = functions.signature
        self.program = self.signature.program
        self.momenta = self.signature.momenta
        self.constructor = constructor
        self.check = check
        self.function = function

    def inputs(self) -> list[Parameter]:
        """The parameters of `forward`, in the order of the spec. An optional input that stands
        before a required one gets no default."""
        inputs = [
            p
            for d in self.program.given_inputs
            for p in self.functions.input_parameters(d, Literal(None))
        ]
        last = max(i for i, p in enumerate(inputs) if p.default is None)
        sizes = {f"{decl.name}_size" for decl in self.signature.groups()}
        required = [replace(p, default=None) for p in inputs[:last] if p.name not in sizes]
        optional = [p for p in inputs[:last] if p.name in sizes]
        return [*required, inputs[last], *optional, *inputs[last + 1 :]]

    def print(
        self,
        name: str,
        first: Sequence[Parameter],
        before: Sequence[Stmt],
        demanded: Sequence[Stmt],
        doc: Sequence[str],
        shares: Mapping[str, Expr] = {},
        checked: Sequence[Stmt] = (),
    ) -> Function:
        """The function called `name`, with the parameters `first` in front of the inputs.

        It starts with the statements `before`. The statements `demanded` follow once defaults are
        filled in, `checked` once the check function has accepted the call. `shares` has expressions
        for constructor arguments of which a process has a share.
        """
        inputs = self.inputs()
        checks = CallChecks(self.program)
        head = [*before, *checks.defaults(), *demanded]
        checks.shapes()  # which finds out where lengths can be read
        idle = checks.idle()
        drawn = self.program.drawn_inputs
        local_names = {*idle, *(p.name for p in (*first, *inputs)), *(d.name for d in drawn)}
        segments = segments_of_call(self.program, self._local)

        def argument(name: str) -> Expr:
            if name == self.functions.measuring:
                return checks.measuring()
            return shares.get(name) or Name(name if name in local_names else f"self.{name}")

        body = [s for statements in idle.values() for s in statements]
        checked_arguments = tuple(argument(p.name) for p in self.check.parameters)
        body += [ExprStmt(Call(Name(self.check.name), checked_arguments)), *checked]
        body += segments.statements
        body += [self._draw(decl, checks) for decl in drawn]
        names = [p.name for p in self.function.function.parameters]
        body += self._call({**{name: argument(name) for name in names}, **segments.arguments})
        parameters = (*first, *inputs)
        statements = (*head, *self._reading_once(body))
        return Function(name, parameters, self.signature.returns(), statements, tuple(doc))

    def _draw(self, decl: InputDecl, checks: CallChecks) -> Stmt:
        """Random numbers in training, once the call is known to be one that can be computed."""
        assert decl.drawn is not None
        numbers = [checks.number(argument) for argument in decl.drawn.arguments]
        first = self.program.inputs[0]
        shape = None if decl.dims == first.dims else checks.shape(decl.dims)
        function = f"runtime.draw_{decl.drawn.distribution}"
        numbers_drawn = call(function, Name(first.name), *numbers, shape=shape)
        value = IfElse(Name("self.training"), numbers_drawn, Literal(None))
        return Assign((Name(decl.name),), value)

    def _call(self, arguments: Mapping[str, Expr]) -> list[Stmt]:
        """The call of the function, with running statistics and momenta as they are at the time."""
        uses_running, counter = Name(self._local("kept")), Name(self._local("counter"))
        running = [buffer.name for buffer in self.signature.tracked]
        body: list[Stmt] = []
        if running:
            body.append(Assign((uses_running,), self._uses_running()))
        counts = counts_batches(self.program)
        if counts:
            body.append(Assign((counter,), call("runtime.counter_of", Name("self"))))
        kept = {n: IfElse(uses_running, arguments[n], Literal(None)) for n in running}
        momenta = {name: self._momentum(value, counter) for value, name in self.momenta.items()}
        by_name: Mapping[str, Expr] = {**arguments, **kept, **momenta}
        function = self.function.function
        result: Expr = Call(
            Name(function.name), tuple(by_name[p.name] for p in function.parameters)
        )
        if counts:  # only after everything that can fail
            output = Name(self._local("result"))
            count = call("runtime.count_batch", counter, Name(self.program.inputs[0].name))
            body += [Assign((output,), result), ExprStmt(count)]
            result = output
        return [*body, Return(result)]

    def _uses_running(self) -> Expr:
        """Whether a call reads and writes running statistics, if the module has any."""
        keeps = Name("self.track_running_stats")
        if flag_alone_decides(self.program):
            return keeps
        return Binary("or", (keeps, Unary("not ", Name("self.training"))))

    def attribute(self, name: str) -> str:
        """The attribute of the module that has this parameter or buffer."""
        return name

    def _reading_once(self, body: list[Stmt]) -> list[Stmt]:
        """The statements, with parameters and buffers read into variables once. Each read of such
        an attribute takes `nn.Module` a microsecond."""
        used = set(paths_in(tuple(body)))
        state = [p.name for p in self.program.params] + [b.name for b in self.program.buffers]
        local = {name: self._local(name) for name in state if f"self.{name}" in used}
        if not local:
            return body
        attributes = [Literal(self.attribute(name)) for name in local]
        value = call("runtime.tensors_of", Name("self"), *attributes)
        targets = tuple(map(Name, local.values()))
        names = {f"self.{name}": variable for name, variable in local.items()}
        read = Assign((List(targets),) if len(targets) == 1 else targets, value)
        return [read, *renamed(tuple(body), names)]

    def _momentum(self, momentum: Scalar | None, counter: Name) -> Expr:
        if momentum == Const(1.0):  # what arrives replaces the statistic, also in an average of all
            return Literal(1.0)
        value = Literal(None) if momentum is None else self.constructor.scalar(momentum)
        # As in torch, `None` keeps what there is where nothing is counted.
        batch_counter = counter if counts_batches(self.program) else Literal(None)
        return call("runtime.momentum_of", value, batch_counter)

    def _local(self, name: str) -> str:
        """A free name for a local variable of `forward`."""
        used_names = {
            p.name for d in self.program.inputs for p in self.functions.input_parameters(d)
        }
        used_names |= {a.name for a in self.program.arguments}
        used_names |= {self.check.name, self.function.function.name}
        while name in used_names:
            name += "_"
        return name
