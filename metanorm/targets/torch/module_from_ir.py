"""A norm as a module: a class with the face of torch's own layers, and the function it calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metanorm.ir.nodes import (
    Argument,
    BufferDecl,
    Divisible,
    InputDecl,
    ParamDecl,
    Program,
    Switch,
)
from metanorm.ir.scalar import Const, Hyper, Scalar, SizeOf
from metanorm.ir.space import Space
from metanorm.semantics.naming import snake_case
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
    Raise,
    Return,
    Starred,
    Stmt,
    Tuple,
    names_in,
)
from metanorm.targets.torch.body import Body, momenta
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.describe import class_doc, function_doc
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import call, integer, method

ANNOTATIONS = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "matrix": "runtime.Given",
}
SELF = Parameter("self")


@dataclass(frozen=True)
class Compiled:
    """A norm at both ends of the compiler: its equations, its program, and that optimised."""

    equations: ast.Norm
    program: Program
    optimised: Program


def definitions(norm: Compiled) -> tuple[Stmt, ...]:
    """The class, the type of its result where there are several outputs, and the function."""
    return _Printer(norm).definitions()


class _Printer:
    def __init__(self, norm: Compiled) -> None:
        self.norm = norm
        self.program = norm.optimised
        self.space = Space(self.program.axes)
        self.function = snake_case(self.program.name)
        self.momenta = momenta(self.program)
        self.tracked = [b for b in self.program.buffers if b.tracked]
        taken = [a.name for a in self.program.arguments] + [self.function, "dtype", "training"]
        taken += [i.name for i in self.program.inputs] + [p.name for p in self.program.params]
        taken += [b.name for b in self.program.buffers] + [i.name + "_size" for i in self._groups()]
        body = Body(self.program, (*taken, *self.momenta.values()))
        self.body = tuple(body.statements())
        self.used = set(names_in(self.body))

    def definitions(self) -> tuple[Stmt, ...]:
        result = self._result_type()
        return (*result, self._class(), self._function())

    # ---- what a norm takes

    def _groups(self) -> list[InputDecl]:
        """The index inputs that bring a number of groups."""
        return [i for i in self.program.inputs if i.sort == "index" and i.table is None]

    def _has_state(self) -> bool:
        return bool(self.program.params or self.program.buffers)

    def _returns(self) -> str:
        several = len(self.program.outputs) > 1
        return f"{self.program.name}Output" if several else "Tensor"

    def _result_type(self) -> tuple[Stmt, ...]:
        if len(self.program.outputs) == 1:
            return ()
        doc = (f"What `{self.program.name}` returns.",)
        fields = tuple(
            Assign((Name(name),), None, annotation="Tensor") for name, _ in self.program.outputs
        )
        return (Class(self._returns(), "NamedTuple", fields, doc),)

    def _nullable(self, argument: Argument) -> bool:
        """Whether `None` can be given: for the momentum, and where it is the default."""
        is_momentum = Hyper(argument.name) in self.momenta
        no_default = argument.default is None and not argument.required
        return argument.type == "float" and (is_momentum or no_default)

    def _annotation(self, argument: Argument) -> str:
        if argument.type == "size":
            variadic = any(self.space[axis].variadic for axis in argument.axes)
            return "int | Sequence[int]" if variadic else "int"
        return ANNOTATIONS[argument.type] + (" | None" if self._nullable(argument) else "")

    def _shapes(self) -> list[Argument]:
        """The arguments that give the shape of a group of axes."""
        sizes = [a for a in self.program.arguments if a.type == "size"]
        return [a for a in sizes if any(self.space[axis].variadic for axis in a.axes)]

    # ---- the function

    def _function(self) -> Function:
        parameters = [p for i in self.program.inputs for p in self._input_parameters(i)]
        parameters += [Parameter(b.name, self._buffer_type(b)) for b in self.program.buffers]
        parameters += [
            Parameter(p.name, "Tensor | None" if p.switches else "Tensor")
            for p in self.program.params
        ]
        for argument in self._passed():
            is_shape = argument in self._shapes()
            annotation = "tuple[int, ...]" if is_shape else self._annotation(argument)
            matrix = argument.type == "matrix"
            parameters.append(Parameter(argument.name, "str | Tensor" if matrix else annotation))
        if "training" in self.used:
            parameters.append(Parameter("training", "bool"))
        parameters += [Parameter(name, "float | Tensor") for name in self.momenta.values()]
        return Function(
            self.function,
            tuple(parameters),
            self._returns(),
            (*self._epsilons(), *self.body),
            function_doc(self.program),
        )

    def _buffer_type(self, buffer: BufferDecl) -> str:
        return "Tensor | None" if buffer.tracked else "Tensor"

    def _input_parameters(self, decl: InputDecl, default: Expr | None = None) -> list[Parameter]:
        filled = default is None and isinstance(decl.default, str)  # `forward` puts the default in
        optional = "" if decl.required or filled else " | None"
        parameters = [Parameter(decl.name, f"Tensor{optional}", None if decl.required else default)]
        if decl in self._groups():
            parameters.append(Parameter(f"{decl.name}_size", "int | None", default))
        return parameters

    def _passed(self) -> list[Argument]:
        """The constructor arguments that the function reads."""
        own = set(self.momenta.values())
        return [a for a in self.program.arguments if a.name in self.used and a.name not in own]

    def _epsilons(self) -> list[Stmt]:
        """A hyperparameter that is `None` stands for the machine epsilon of the input."""
        done: list[Stmt] = []
        for argument in self._passed():
            if self._nullable(argument):
                name, dtype = Name(argument.name), Attribute(Name(self._first()), "dtype")
                epsilon = Attribute(call("torch.finfo", dtype), "eps")
                missing = Binary("is", (name, Literal(None)))
                done.append(If(missing, (Assign((name,), epsilon),)))
        return done

    def _first(self) -> str:
        return self.program.inputs[0].name

    # ---- the class

    def _class(self) -> Class:
        attributes = self._attributes()
        body: list[Stmt] = [*attributes, *([Blank()] if attributes else []), self._init()]
        if self._has_state():
            body.append(self._reset())
        if self.tracked:
            body.append(self._reset_running())
        if any(p.low is not None for p in self.program.params):
            body.append(self._project())
        body += [self._forward(), self._extra_repr()]
        doc = class_doc(self.norm.equations, self.program)
        return Class(self.program.name, "nn.Module", tuple(body), doc)

    def _attributes(self) -> list[Stmt]:
        """Annotations of what `register_buffer` and `register_parameter` set."""
        done: list[Stmt] = []
        for p in self.program.params:
            optional = " | None" if p.switches else ""
            done.append(Assign((Name(p.name),), None, annotation=f"nn.Parameter{optional}"))
        for b in self.program.buffers:
            done.append(Assign((Name(b.name),), None, annotation=self._buffer_type(b)))
        if self.tracked:
            name = Name("num_batches_tracked")
            done.append(Assign((name,), None, annotation="Tensor | None"))
        return done

    def _init(self) -> Function:
        parameters: list[Parameter] = [SELF]
        for argument in self.program.arguments:
            default: Expr | None = None
            if not argument.required and argument.type != "size":
                default = Literal(argument.default)
            parameters.append(Parameter(argument.name, self._annotation(argument), default))
        switches = [s for s in self.program.switches if not s.keyword_only]
        later = [s for s in self.program.switches if s.keyword_only]
        parameters += [Parameter(s.name, "bool", Literal(s.default)) for s in _ordered(switches)]
        if self._has_state():
            parameters.append(Parameter("device", "torch.device | str | None", Literal(None)))
            parameters.append(Parameter("dtype", "torch.dtype | None", Literal(None)))
        if later:
            parameters.append(Parameter("*"))
            parameters += [Parameter(s.name, "bool", Literal(s.default)) for s in later]
        body: list[Stmt] = [Do(call("super().__init__"))]
        body += self._divisible()
        body += [self._stored(a) for a in self.program.arguments]
        stored = [s.name for s in _ordered(self.program.switches) if s.name != "bias"]
        body += [Assign((Name(f"self.{name}"),), Name(name)) for name in stored]
        for param in self.program.params:
            body += self._register_param(param)
        body += self._register_buffers()
        if self._has_state():
            body.append(Do(call("self.reset_parameters")))
        return Function("__init__", tuple(parameters), "None", tuple(body))

    def _stored(self, argument: Argument) -> Stmt:
        value: Expr = Name(argument.name)
        if argument in self._shapes():
            value = call("runtime.as_shape", value)
        elif argument.type == "matrix":
            value = call("runtime.check_matrix", value, Literal(argument.name))
        return Assign((Name(f"self.{argument.name}"),), value)

    def _divisible(self) -> list[Stmt]:
        """Axes of fixed length that are cut into parts, checked at once."""
        done: list[Stmt] = []
        for check in self.program.checks:
            if not isinstance(check, Divisible) or self.space[check.axis].size is None:
                continue
            size = self._scalar(SizeOf(check.axis), "")
            by = self._scalar(check.by, "")
            if isinstance(size, Name) and isinstance(by, (Name, Literal)):
                shown = by.text if isinstance(by, Name) else "parts"
                arguments = Literal(self.program.name), Literal(size.text), size, Literal(shown), by
                bad = Binary("or", (Binary("<", (by, integer(1))), Binary("%", (size, by))))
                error = call("runtime.not_divisible", *arguments)
                done.append(If(bad, (Raise(error),)))
        return done

    def _scalar(self, scalar: Scalar, names: str = "self.") -> Expr:
        """A number that is known at construction."""
        return number_expr(scalar, lambda axis: self._size(axis, names), names)

    def _size(self, axis: str, names: str) -> Expr:
        size = self.space[axis].size
        assert size is not None, axis
        expr = self._scalar(size, names)
        if self.space[axis].variadic:
            shape = call("runtime.as_shape", expr) if not names else expr
            return call("math.prod", shape)
        return expr

    def _shape(self, dims: tuple[str, ...]) -> list[Expr]:
        """The arguments of `torch.empty` for a tensor on these axes."""
        parts: list[Expr] = []
        for dim in dims:
            size = self.space[dim].size
            assert size is not None, dim
            scalar = self._scalar(size)
            parts.append(scalar)
        variadic = [self.space[dim].variadic for dim in dims]
        if len(parts) == 1:
            return parts
        if not parts:
            return [Tuple(())]
        return [Tuple(tuple(Starred(p) if v else p for p, v in zip(parts, variadic)))]

    def _empty(self, dims: tuple[str, ...]) -> Expr:
        return call("torch.empty", *self._shape(dims), device=Name("device"), dtype=Name("dtype"))

    def _register_param(self, param: ParamDecl) -> list[Stmt]:
        made = Assign((Name(f"self.{param.name}"),), call("nn.Parameter", self._empty(param.dims)))
        if not param.switches:
            return [made]
        switches = tuple(Name(s) for s in param.switches)
        condition = switches[0] if len(switches) == 1 else Binary("and", switches)
        absent = Do(call("self.register_parameter", Literal(param.name), Literal(None)))
        return [If(condition, (made,), (absent,))]

    def _register_buffers(self) -> list[Stmt]:
        def register(name: str, value: Expr) -> Stmt:
            return Do(call("self.register_buffer", Literal(name), value))

        plain = [b for b in self.program.buffers if not b.tracked]
        done = [register(b.name, self._empty(b.dims)) for b in plain]
        if self.tracked:
            zero = call("torch.tensor", integer(0), dtype=Name("torch.long"), device=Name("device"))
            on = [register(b.name, self._empty(b.dims)) for b in self.tracked]
            on.append(register("num_batches_tracked", zero))
            names = [b.name for b in self.tracked] + ["num_batches_tracked"]
            off = [register(name, Literal(None)) for name in names]
            done.append(If(Name("track_running_stats"), tuple(on), tuple(off)))
        return done

    def _initial(self, name: str, init: Scalar) -> Stmt:
        target = Name(f"self.{name}")
        plain = {0.0: "nn.init.zeros_", 1.0: "nn.init.ones_"}
        if isinstance(init, Const) and init.value in plain:
            return Do(call(plain[init.value], target))
        return Do(call("nn.init.constant_", target, self._scalar(init)))

    def _reset(self) -> Function:
        body: list[Stmt] = []
        for param in self.program.params:
            step = self._initial(param.name, param.init)
            present = Binary("is not", (Name(f"self.{param.name}"), Literal(None)))
            body.append(If(present, (step,)) if param.switches else step)
        plain = [b for b in self.program.buffers if not b.tracked]
        body += [self._initial(b.name, b.init) for b in plain]
        if self.tracked:
            body.append(Do(call("self.reset_running_stats")))
        doc = ("Set every parameter and buffer to its initial value.",)
        return Function("reset_parameters", (SELF,), "None", tuple(body), doc)

    def _reset_running(self) -> Function:
        body: list[Stmt] = []
        for b in self.tracked:
            present = Binary("is not", (Name(f"self.{b.name}"), Literal(None)))
            body.append(If(present, (self._initial(b.name, b.init),)))
        counter = Name("self.num_batches_tracked")
        present = Binary("is not", (counter, Literal(None)))
        body.append(If(present, (Do(method(counter, "zero_")),)))
        doc = ("Forget all batches seen so far.",)
        return Function("reset_running_stats", (SELF,), "None", tuple(body), doc)

    def _project(self) -> Function:
        body: list[Stmt] = []
        for p in self.program.params:
            if p.low is not None and p.high is not None:
                data = Attribute(Name(f"self.{p.name}"), "data")
                low, high = self._scalar(p.low), self._scalar(p.high)
                body.append(Do(method(data, "clamp_", low, high)))
        doc = ("Bring bounded parameters back into their intervals, after an optimizer step.",)
        return Function("project_", (SELF,), "None", tuple(body), doc)

    # ---- a call

    def _forward(self) -> Function:
        parameters = [SELF]
        for decl in self.program.inputs:
            parameters += self._input_parameters(decl, Literal(None))
        required = [p for p in parameters if p.default is None]
        optional = [p for p in parameters if p.default is not None]
        body: list[Stmt] = list(CallChecks(self.program).statements())
        body += self._count_batch()
        arguments: list[Expr] = []
        for decl in self.program.inputs:
            arguments.append(Name(decl.name))
            arguments += [Name(f"{decl.name}_size")] if decl in self._groups() else []
        arguments += [Name(f"self.{b.name}") for b in self.program.buffers]
        arguments += [Name(f"self.{p.name}") for p in self.program.params]
        arguments += [Name(f"self.{a.name}") for a in self._passed()]
        arguments += [Name("self.training")] if "training" in self.used else []
        arguments += [Name(name) for name in self.momenta.values()]
        body.append(Return(Call(Name(self.function), tuple(arguments))))
        doc = (f"Normalize `{self._first()}`.",)
        return Function("forward", (*required, *optional), self._returns(), tuple(body), doc)

    def _count_batch(self) -> list[Stmt]:
        if not self.momenta:
            return []
        done: list[Stmt] = []
        counter = Name("self.num_batches_tracked")
        inner: list[Stmt] = [Do(method(counter, "add_", integer(1)))]
        for scalar, name in self.momenta.items():
            done.append(Assign((Name(name),), Literal(0.0), annotation="float | Tensor"))
            value = Literal(None) if scalar is None else self._scalar(scalar)
            inner.append(Assign((Name(name),), call("runtime.momentum_of", value, counter)))
        seen = Binary("is not", (counter, Literal(None)))
        return [*done, If(Binary("and", (Name("self.training"), seen)), tuple(inner))]

    def _extra_repr(self) -> Function:
        parts: list[str | Expr] = []
        named = [a.name for a in self.program.arguments if not a.required and a.type != "size"]
        named += [s.name for s in _ordered(self.program.switches) if s.name != "bias"]
        plain = [a for a in self.program.arguments if a.name not in named]
        for argument in plain:
            parts += [", "] if parts else []
            parts.append(Name(f"self.{argument.name}"))
        for name in named:
            parts += [f"{', ' if parts else ''}{name}=", Name(f"self.{name}")]
        value = Format(tuple(parts)) if parts else Literal("")
        doc = ("The arguments of the constructor.",)
        return Function("extra_repr", (SELF,), "str", (Return(value),), doc)


def _ordered(switches: Sequence[Switch]) -> list[Switch]:
    """`affine` before `track_running_stats`, as torch has them."""
    return sorted(switches, key=lambda s: s.name == "track_running_stats")
