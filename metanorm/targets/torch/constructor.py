"""Print `__init__` and the methods that set initial values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from metanorm.ir.nodes import Draw, Eye, Init
from metanorm.ir.program import Argument, Divisible, Holds, ParamDecl, Program, Switch
from metanorm.ir.scalar import Const, Scalar, SizeOf
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    ExprStmt,
    Function,
    If,
    Literal,
    Name,
    Parameter,
    Raise,
    Starred,
    Stmt,
    Tuple,
)
from metanorm.targets.torch.base import BaseAttribute, FixedAttribute, RenamedAttribute, TorchBase
from metanorm.targets.torch.checks import holds
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import call, integer, method
from metanorm.targets.torch.signature import Signature

SELF = Parameter("self")

# Where parameters and buffers get their lengths later, why they are empty.
PENDING = {
    "weight": "empty until there is a weight",
    "gradient": "empty until there is a gradient",
    "step": "empty until there is a weight",
}

# The runtime function that checks a constructor argument, by its type.
CHECKED = {"size": "runtime.as_length", "int": "runtime.as_whole", "float": "runtime.as_number"}


class Constructor:
    """Prints `__init__`, the initial values, and the parameters' bounds."""

    def __init__(self, signature: Signature, base: TorchBase | None = None) -> None:
        self.signature = signature
        self.base = base
        self.program = signature.program
        self.space = signature.space
        self.tracked = signature.tracked
        self.pending_comment = PENDING.get(self.program.target, "")

    def attributes(self) -> list[Stmt]:
        """The class attributes: annotations of parameters and buffers, or for a class that derives
        from a torch layer, the attributes that the layer has under other names."""
        if self.base is not None:
            base_attributes = self.base.attributes.items()
            return [
                _property(name, attribute)
                for name, attribute in base_attributes
                if not isinstance(attribute, FixedAttribute)
            ]
        statements: list[Stmt] = []
        for p in self.program.params:
            optional = " | None" if p.switches else ""
            statements.append(
                Assign((Name(p.name),), None, self.pending_comment, f"nn.Parameter{optional}")
            )
        for argument in self.program.arguments:
            if argument.type == "matrix":
                statements.append(Assign((Name(argument.name),), None, annotation="str | Tensor"))
        statements += [_tested(a, self.program) for a in self.program.arguments if a.test]
        for b in self.program.buffers:
            type_ = self.signature.buffer_type(b)
            statements.append(Assign((Name(b.name),), None, self.pending_comment, type_))
        if self.tracked:
            name = Name("num_batches_tracked")
            statements.append(Assign((name,), None, annotation="Tensor | None"))
        return statements

    def init(self) -> Function:
        """`__init__`, which stores its arguments and registers parameters and buffers."""
        parameters: list[Parameter] = [SELF]
        for argument in self.program.constructor_arguments:
            default: Expr | None = None
            if not argument.required and argument.type != "size":
                default = Literal(argument.default)
            parameters.append(
                Parameter(argument.name, self.signature.annotation(argument), default)
            )
        switches = [s for s in self.program.switches if not s.keyword_only]
        keyword_only = [s for s in self.program.switches if s.keyword_only]
        parameters += [Parameter(s.name, "bool", Literal(s.default)) for s in torch_order(switches)]
        if self.signature.makes_state():
            parameters.append(Parameter("device", "torch.device | str | None", Literal(None)))
            parameters.append(Parameter("dtype", "torch.dtype | None", Literal(None)))
        if keyword_only:
            parameters.append(Parameter("*"))
            parameters += [Parameter(s.name, "bool", Literal(s.default)) for s in keyword_only]
        body: list[Stmt] = [ExprStmt(call("super().__init__"))]
        if self.base is not None:
            comment = "not the base's, which registers its own"
            body = [ExprStmt(call("nn.Module.__init__", Name("self")), comment)]
        body += [self._stored(a) for a in self.program.constructor_arguments]
        body += self.length_checks()
        switch_names = [s.name for s in torch_order(self.program.switches) if s.name != "bias"]
        body += [Assign((Name(f"self.{name}"),), Name(name)) for name in switch_names]
        for switches, params in groupby(self.program.params, lambda param: param.switches):
            body += self._register_params(list(params), switches)
        body += self._register_buffers()
        if self.base is not None:
            body += self._base_state(self.base)
        if any(decl.first for decl in self.program.state):
            body.append(Assign((Name("self.has_begun"),), Literal(False)))
        if self.signature.makes_state():
            body.append(ExprStmt(call("self.reset_parameters")))
        return Function("__init__", tuple(parameters), "None", tuple(body))

    def _base_state(self, base: TorchBase) -> list[Stmt]:
        """The attributes that the constructor of the torch layer sets and the norm does not use."""
        fixed = {
            name: attribute
            for name, attribute in base.attributes.items()
            if isinstance(attribute, FixedAttribute)
        }
        statements: list[Stmt] = [
            Assign((Name(f"self.{name}"),), Literal(attribute.value))
            for name, attribute in fixed.items()
        ]
        for kind, names in (("parameter", base.no_parameters), ("buffer", base.no_buffers)):
            statements += [
                ExprStmt(call(f"self.register_{kind}", Literal(name), Literal(None)))
                for name in names
            ]
        return statements

    def _stored(self, argument: Argument) -> Stmt:
        value, name = Name(argument.name), Literal(argument.name)
        if argument.type == "matrix":
            dtype = Name("dtype") if self.signature.makes_state() else None
            return ExprStmt(call("runtime.keep_matrix", Name("self"), name, value, dtype=dtype))
        checked: Expr = value
        if argument in self.signature.shapes():
            checked = call("runtime.as_shape", value, name)
        elif argument.type == "choice":
            choices = Tuple(tuple(map(Literal, argument.choices)))
            checked = call("runtime.as_choice", value, name, choices)
        elif argument.type in CHECKED:
            or_none = "_or_none" if self.signature.nullable(argument) else ""
            checked = call(CHECKED[argument.type] + or_none, value, name)
        return Assign((Name(f"self.{argument.name}"),), checked)

    def length_checks(self, names: str = "") -> list[Stmt]:
        """The checks of axes whose length the constructor knows: that they can be cut into equal
        parts, or have room for runs. Arguments are read as `{names}argument`."""
        statements: list[Stmt] = []
        for check in self.program.checks:
            if isinstance(check, Holds) and self.space.is_fixed(check.axis):
                size = self.scalar(SizeOf(check.axis), names)
                length = self.scalar(check.length, names)
                statements.append(holds(self.program.name, check.axis, size, length))
            if not isinstance(check, Divisible) or not self.space.is_fixed(check.axis):
                continue
            size = self.scalar(SizeOf(check.axis), names)
            by = self.scalar(check.by, names)
            if not (isinstance(size, Literal) and isinstance(by, Literal)):  # those are checked
                shown = by.text.removeprefix(names) if isinstance(by, Name) else "parts"
                argument = size.text.removeprefix(names) if isinstance(size, Name) else ""
                what = Literal(argument or check.axis)
                arguments = Literal(self.program.name), what, size, Literal(shown), by
                bad: Expr = Binary("%", (size, by))
                if not isinstance(by, Literal):  # a number in the spec is known to be positive
                    bad = Binary("or", (Binary("<", (by, integer(1))), bad))
                error = call("runtime.not_divisible", *arguments)
                statements.append(If(bad, (Raise(error),)))
        return statements

    def scalar(self, scalar: Scalar, names: str = "self.") -> Expr:
        """A scalar that is known at construction, as an expression."""
        return number_expr(scalar, lambda axis: self._size(axis, names), names)

    def _size(self, axis: str, names: str) -> Expr:
        size = self.space[axis].size
        assert size is not None, axis
        expr = self.scalar(size, names)
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
            scalar = self.scalar(size)
            parts.append(scalar)
        variadic = [self.space[dim].variadic for dim in dims]
        if len(parts) == 1:
            return parts
        if not parts:
            return [Tuple(())]
        return [Tuple(tuple(Starred(p) if v else p for p, v in zip(parts, variadic)))]

    def _empty(self, dims: tuple[str, ...]) -> Expr:
        if self.pending_comment:
            return call("torch.empty", integer(0))
        return call("torch.empty", *self._shape(dims), device=Name("device"), dtype=Name("dtype"))

    def _register_params(
        self, params: Sequence[ParamDecl], switches: tuple[str, ...]
    ) -> list[Stmt]:
        """Register parameters that the same switches turn on."""
        registered = [
            Assign((Name(f"self.{p.name}"),), call("nn.Parameter", self._empty(p.dims)))
            for p in params
        ]
        if not switches:
            return [*registered]
        names = tuple(Name(s) for s in switches)
        condition = names[0] if len(names) == 1 else Binary("and", names)
        absent = [
            ExprStmt(call("self.register_parameter", Literal(p.name), Literal(None)))
            for p in params
        ]
        return [If(condition, tuple(registered), tuple(absent))]

    def _register_buffers(self) -> list[Stmt]:
        def register(name: str, value: Expr) -> Stmt:
            return ExprStmt(call("self.register_buffer", Literal(name), value))

        untracked = [b for b in self.program.buffers if not b.tracked]
        statements = [register(b.name, self._empty(b.dims)) for b in untracked]
        if self.tracked:
            zero = call("torch.tensor", integer(0), dtype=Name("torch.long"), device=Name("device"))
            on = [register(b.name, self._empty(b.dims)) for b in self.tracked]
            on.append(register("num_batches_tracked", zero))
            names = [b.name for b in self.tracked] + ["num_batches_tracked"]
            off = [register(name, Literal(None)) for name in names]
            statements.append(If(Name("track_running_stats"), tuple(on), tuple(off)))
        return statements

    def _initial(self, name: str, init: Init) -> Stmt:
        target = Name(f"self.{name}")
        if isinstance(init, Draw):
            numbers = [self.scalar(a) for a in init.arguments]
            return ExprStmt(call(f"nn.init.{init.distribution}_", target, *numbers))
        if isinstance(init, Eye):
            return ExprStmt(call("runtime.eye_", target, **_blocks(init)))
        fill_functions = {0.0: "nn.init.zeros_", 1.0: "nn.init.ones_"}
        if isinstance(init, Const) and init.value in fill_functions:
            return ExprStmt(call(fill_functions[init.value], target))
        return ExprStmt(call("nn.init.constant_", target, self.scalar(init)))

    def reset(self) -> Function:
        """`reset_parameters`."""
        body: list[Stmt] = []
        for param in self.program.params:
            step = self._initial(param.name, param.init)
            present = Binary("is not", (Name(f"self.{param.name}"), Literal(None)))
            body.append(If(present, (step,)) if param.switches else step)
        untracked = [b for b in self.program.buffers if not b.tracked]
        body += [self._initial(b.name, b.init) for b in untracked]
        if self.tracked:
            body.append(ExprStmt(call("self.reset_running_stats")))
        if any(isinstance(p.init, Draw) and p.low is not None for p in self.program.params):
            body.append(ExprStmt(call("self.project_")))
        if any(decl.first for decl in self.program.state):
            body.append(Assign((Name("self.has_begun"),), Literal(False)))
        doc = ("Set every parameter and buffer to its initial value.",)
        return Function("reset_parameters", (SELF,), "None", tuple(body), doc)

    def reset_running(self) -> Function:
        """`reset_running_stats`."""
        body: list[Stmt] = []
        for b in self.tracked:
            present = Binary("is not", (Name(f"self.{b.name}"), Literal(None)))
            body.append(If(present, (self._initial(b.name, b.init),)))
        counter = Name("self.num_batches_tracked")
        present = Binary("is not", (counter, Literal(None)))
        body.append(If(present, (ExprStmt(method(counter, "zero_")),)))
        doc = ("Forget all batches seen so far.",)
        return Function("reset_running_stats", (SELF,), "None", tuple(body), doc)

    def project(self) -> Function:
        """`project_`, which clamps bounded parameters to their intervals."""
        body: list[Stmt] = []
        for p in self.program.params:
            if p.low is not None and p.high is not None:
                data = Attribute(Name(f"self.{p.name}"), "data")
                low, high = self.scalar(p.low), self.scalar(p.high)
                step = ExprStmt(method(data, "clamp_", low, high))
                body.append(step)
        doc = ("Bring bounded parameters back into their intervals, after an optimizer step.",)
        return Function("project_", (SELF,), "None", tuple(body), doc)


def _property(name: str, attribute: BaseAttribute) -> Stmt:
    """A class attribute that reads one or several constructor arguments."""
    assert not isinstance(attribute, FixedAttribute)
    if isinstance(attribute, RenamedAttribute):
        return Assign((Name(name),), call("runtime.renamed", Literal(attribute.argument)))
    lengths = [Literal(length) for length in attribute.lengths]
    return Assign((Name(name),), call("runtime.shape_of", *lengths))


def _tested(argument: Argument, program: Program) -> Stmt:
    """A property that tests whether a string argument has a certain value."""
    test = argument.test
    assert test is not None
    choices = next(a.choices for a in program.arguments if a.name == test.of)
    parts: list[Expr] = [Literal(test.of), Literal(test.text), Tuple(tuple(map(Literal, choices)))]
    return Assign((Name(argument.name),), call("runtime.is_choice", *parts))


def _blocks(eye: Eye) -> dict[str, Expr]:
    return {"blocks": Literal(True)} if eye.blocks else {}


def torch_order(switches: Sequence[Switch]) -> list[Switch]:
    """`affine` before `track_running_stats`, as torch has them."""
    return sorted(switches, key=lambda s: s.name == "track_running_stats")
