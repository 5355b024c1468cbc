"""Print a norm as definitions: a class with the interface of torch's layers, and its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.program import Program
from metanorm.syntax import ast
from metanorm.targets.python.pyir import (
    Assign,
    Blank,
    Class,
    Expr,
    Format,
    Function,
    If,
    Literal,
    Name,
    Return,
    Stmt,
    Tuple,
)
from metanorm.targets.torch.base import TorchBase
from metanorm.targets.torch.constructor import SELF, Constructor, torch_order
from metanorm.targets.torch.describe import class_doc, function_doc
from metanorm.targets.torch.entries import EntryPrinter, result_type
from metanorm.targets.torch.first_batch import FirstBatch
from metanorm.targets.torch.forward import ForwardPrinter
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.hub_layer import LayerPrinter
from metanorm.targets.torch.initializers import WeightInitializer
from metanorm.targets.torch.kinds import fewest_dims, most_dims, norm_kind
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.names import NormNames
from metanorm.targets.torch.signature import Signature
from metanorm.targets.torch.stated_backward import stated_function, with_decorator


@dataclass(frozen=True)
class CompiledEntry:
    """A further method of a norm: its equations, and its program before and after the passes."""

    equations: ast.Norm
    program: Program
    optimised: Program


@dataclass(frozen=True)
class CompiledNorm:
    """A norm before and after the passes: its equations, its program, and the optimised program.

    `initializers` are the optimised programs of computed initial values, by the name of the
    parameter or buffer. `base` is the torch layer that the norm is provably equal to. `entries` are
    its further methods.
    """

    equations: ast.Norm
    program: Program
    optimised: Program
    initializers: Mapping[str, Program] = field(default_factory=dict)
    base: TorchBase | None = None
    entries: Sequence[CompiledEntry] = ()

    @property
    def functions(self) -> list[Program]:
        """The optimised programs that become functions: its own, and those of its entries."""
        return [self.optimised, *(entry.optimised for entry in self.entries)]


def definitions(
    norm: CompiledNorm, names: NormNames, rename: Sequence[tuple[str, str]] | None = None
) -> tuple[Stmt, ...]:
    """The class, the type of its result where there are several outputs, and the function.

    With `rename`, pairs of names as in `Options`, the class is a layer for the `kernels` package.
    """
    return _Printer(norm, names).definitions(rename)


class _Printer:
    def __init__(self, norm: CompiledNorm, names: NormNames) -> None:
        self.norm = norm
        self.program = norm.optimised
        self.kind = norm_kind(norm.program)
        self.signature = Signature(self.program, names)
        self.base = norm.base
        self.constructor = Constructor(self.signature, norm.base)
        self.momenta = self.signature.momenta
        self.tracked = self.signature.tracked
        self.functions = FunctionPrinter(self.signature)
        self.check = self.functions.check(names.check)
        backward = self.program.backward
        self.stated: list[Function] = []
        if backward is not None:
            self.stated.append(stated_function(backward, names.backward, self.functions))
        self.function = self.functions.print(
            names.function, self.program, function_doc(self.program)
        )
        self.entries = [
            EntryPrinter(
                entry.equations, entry.optimised, names.entries[entry.program.method], norm.base
            )
            for entry in norm.entries
        ]
        if backward is not None:
            decorated = with_decorator(self.function.function, backward, names.backward)
            self.function = replace(self.function, function=decorated)
        self.first_batch: FirstBatch | None = None
        if any(decl.first for decl in self.program.state):
            self.first_batch = FirstBatch(self.signature, self.functions, norm.initializers)
        self.weight_initializer: WeightInitializer | None = None
        if self.program.for_weights and self.signature.has_state():
            self.weight_initializer = WeightInitializer(
                self.signature, self.constructor, self.functions, norm.initializers
            )

    def definitions(self, rename: Sequence[tuple[str, str]] | None) -> tuple[Stmt, ...]:
        result = (*self._result_type(), *(s for e in self.entries for s in e.result_type()))
        initializers = (
            [*self.weight_initializer.functions_by_name.values()] if self.weight_initializer else []
        )
        initializers += self.first_batch.functions_by_name.values() if self.first_batch else ()
        return (
            *result,
            self._class() if rename is None else self._layer(rename),
            self.check,
            *self.stated,
            self.function.function,
            *(p.function for p in initializers),
            *(function for entry in self.entries for function in entry.functions()),
        )

    def _result_type(self) -> tuple[Stmt, ...]:
        return result_type(self.program, self.signature)

    def _class(self) -> Class:
        attributes = self.constructor.attributes()
        if self.kind.is_attached:
            attributes = [*self._attached(), *attributes]
        body: list[Stmt] = [
            *attributes,
            *([Blank()] if attributes else []),
            self.constructor.init(),
        ]
        if self.base is None:  # else the methods of the torch layer do the same
            body += self._resets()
        if any(p.low is not None for p in self.program.params):
            body.append(self.constructor.project())
        forward = self._forward(
            ForwardPrinter(self.functions, self.constructor, self.check, self.function)
        )
        body.append(forward)
        body += [entry.method() for entry in self.entries]
        if self.first_batch is not None:
            body += self.first_batch.methods(forward.parameters[1:])
        if self.weight_initializer is not None:
            body.append(self.weight_initializer.method())
        if self.base is None or not self.base.is_plain:
            body.append(self._extra_repr())
        doc = class_doc(self.norm.equations, self.program, self.kind.usage)
        base = self.base.name if self.base else self.kind.base
        return Class(self.program.name, base, tuple(body), doc)

    def _attached(self) -> list[Stmt]:
        """The class attributes that tell an optimizer's hooks which parameters to call it with."""
        value_by_name: dict[str, Expr] = {"fewest_dims": integer(fewest_dims(self.norm.program))}
        most = most_dims(self.norm.program)
        if most is not None:
            value_by_name["most_dims"] = integer(most)
        if len(self.program.inputs) > 1:
            value_by_name[self.kind.second] = Literal(True)
        if self.program.buffers:
            names = tuple(Literal(buffer.name) for buffer in self.program.buffers)
            value_by_name["state_names"] = Tuple(names)
        return [Assign((Name(name),), value) for name, value in value_by_name.items()]

    def _resets(self) -> list[Stmt]:
        reset = [self.constructor.reset()] if self.signature.makes_state() else []
        return [*reset, *([self.constructor.reset_running()] if self.tracked else [])]

    def _layer(self, rename: Sequence[tuple[str, str]]) -> Class:
        printer = LayerPrinter(self.functions, self.constructor, self.check, self.function, rename)
        return printer.layer(self._forward(printer), self.norm.equations)

    def _forward(self, forward: ForwardPrinter) -> Function:
        demanded = self.weight_initializer.demanded() if self.weight_initializer is not None else []
        inner = [Name(p.name) for p in forward.inputs()]
        override = call("runtime.has_override", Name("self"), inner[0])
        node = call("runtime.handle_override", Name("self.forward"), *inner)
        # The runtime handles calls by torch.fx, with nested tensors, and among processes.
        before = (If(override, (Return(node),)),)
        first: list[Stmt] = []
        if self.first_batch is not None:
            first = self.first_batch.demanded([name.text for name in inner])
        doc = (self.kind.call_doc,)
        return forward.print("forward", (SELF,), before, demanded, doc, checked=first)

    def _extra_repr(self) -> Function:
        parts: list[str | Expr] = []
        named = [
            a.name
            for a in self.program.constructor_arguments
            if not a.required and a.type != "size"
        ]
        named += [s.name for s in torch_order(self.program.switches) if s.name != "bias"]
        positional = [a for a in self.program.constructor_arguments if a.name not in named]
        for argument in positional:
            parts += [", "] if parts else []
            parts.append(Name(f"self.{argument.name}"))
        for name in named:
            parts += [f"{', ' if parts else ''}{name}=", Name(f"self.{name}")]
        value = Format(tuple(parts)) if parts else Literal("")
        doc = ("The arguments of the constructor.",)
        return Function("extra_repr", (SELF,), "str", (Return(value),), doc)
