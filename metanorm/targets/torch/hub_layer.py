"""Print a norm as a layer for the `kernels` package of Hugging Face: a class with `forward` alone.

`kernelize` binds that `forward` to a layer of another class, so that `self` is the layer that it
takes the place of. Parameters, buffers and hyperparameters are read from its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from metanorm.diagnostics.suggest import prose
from metanorm.ir.momenta import counts_batches
from metanorm.ir.program import Argument, BufferDecl, ParamDecl, Program, Test
from metanorm.ir.scalar import Hyper
from metanorm.semantics.reserved import GENERATED, GENERATED_BUILTINS, TORCH_ATTRIBUTES
from metanorm.syntax import ast
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Blank,
    Class,
    Expr,
    Function,
    IfElse,
    Literal,
    Name,
    Stmt,
    Tuple,
    paths_in,
    renamed,
)
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.constructor import Constructor
from metanorm.targets.torch.describe import layer_doc
from metanorm.targets.torch.forward import ForwardPrinter
from metanorm.targets.torch.function import FunctionPrinter, PrintedFunction
from metanorm.targets.torch.layout import call

# What every layer has by these names, or the class around `forward`.
NOT_OF_A_NORM = TORCH_ATTRIBUTES | {"can_torch_compile", "has_backward"}
NOT_ACTIVATIONS = {
    "weight": "it is a norm for weights, which `torch.nn.utils.parametrize` puts on a layer",
    "gradient": "it is a norm for gradients, which no layer computes",
    "step": "it is a norm for steps of an optimizer, which no layer computes",
}


def own_names(program: Program) -> list[str]:
    """The names of a norm that a layer may have under others: inputs, state and arguments."""
    declared = [decl.name for decl in (*program.inputs, *program.state)]
    return declared + [argument.name for argument in program.constructor_arguments]


def names_in_layer(program: Program, rename: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The names of this norm that its layer has under others. `Norm.name` precedes `name`."""
    names = {old: new for old, new in rename if old in own_names(program)}
    for old, new in rename:
        norm, _, name = old.rpartition(".")
        if norm == program.name and name in own_names(program):
            names[name] = new
    return names


def why_no_layer(program: Program, rename: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
    """The reasons why a norm cannot be such a layer."""
    if program.target in NOT_ACTIVATIONS:
        yield NOT_ACTIVATIONS[program.target]
        return
    if program.entries:
        methods = prose([f"`{entry.method}`" for entry in program.entries])
        yield f"it has {methods} beside `forward`"
    begun = [f"`{decl.name}`" for decl in program.state if decl.first]
    if begun:
        yield f"it sets {prose(begun)} from its first batch, and has to remember that it did"
    matrices = [f"`{a.name}`" for a in program.arguments if a.type == "matrix"]
    if matrices:
        yield f"its constructor makes {prose(matrices)} for it, and the layer's own does not"
    names = names_in_layer(program, rename)
    inputs = [names.get(decl.name, decl.name) for decl in program.inputs]
    attributes = [names.get(n, n) for n in own_names(program)[len(inputs) :]]
    for group, what in ((inputs, "arguments"), (attributes, "attributes")):
        for name in dict.fromkeys(n for n in group if group.count(n) > 1):
            yield f"two of its {what} would have the name `{name}`"
    for name in dict.fromkeys(name for name in attributes if name in NOT_OF_A_NORM):
        yield f"every layer has an attribute `{name}`, which is none of a norm"
    for name in (new for old, new in names.items() if new in inputs):
        if name in GENERATED or name in GENERATED_BUILTINS or name.startswith("_"):
            yield f"no argument of `forward` can have the name `{name}`"


class LayerPrinter(ForwardPrinter):
    """Prints such a layer. `rename` has pairs of names as in `Options`."""

    def __init__(
        self,
        functions: FunctionPrinter,
        constructor: Constructor,
        check: Function,
        function: PrintedFunction,
        rename: Sequence[tuple[str, str]],
    ) -> None:
        super().__init__(functions, constructor, check, function)
        self.names = names_in_layer(self.program, rename)
        self.renamed_inputs = {self.attribute(decl.name) for decl in self.program.inputs}
        self.read: set[str] = set()  # what `forward` reads of the layer, by the names of the spec
        self.comments: dict[str, str] = {}  # about some of it

    def layer(self, forward: Function, equations: ast.Norm) -> Class:
        """The class around the method that `print` has printed."""
        body: list[Stmt] = [
            Assign((Name("can_torch_compile"),), Literal(True)),
            Assign((Name("has_backward"),), Literal(True)),
            *self._annotations(),
            Blank(),
            self._in_layer(forward),
        ]
        doc = layer_doc(equations, self.program, self.names)
        return Class(self.program.name, "nn.Module", tuple(body), doc)

    def attribute(self, name: str) -> str:
        """What the layer calls the attribute, or `forward` the argument, of this name."""
        return self.names.get(name, name)

    def _in_layer(self, forward: Function) -> Function:
        """The method with the names of the layer instead of those of the spec."""
        inputs = {decl.name for decl in self.program.inputs}
        paths = {
            old if old in inputs else f"self.{old}": new if old in inputs else f"self.{new}"
            for old, new in self.names.items()
        }
        parameters = tuple(replace(p, name=paths.get(p.name, p.name)) for p in forward.parameters)
        first = self.program.inputs[0].name
        doc = tuple(
            line.replace(f"`{first}`", f"`{self.attribute(first)}`") for line in forward.doc
        )
        body = renamed(forward.body, paths)
        return replace(forward, parameters=parameters, body=body, doc=doc)

    def _annotations(self) -> list[Stmt]:
        """Annotations of the attributes that the layer has to have."""
        types = {p.name: "Tensor | None" if p.switches else "Tensor" for p in self.program.params}
        types |= {b.name: self.signature.buffer_type(b) for b in self.program.buffers}
        types |= {a.name: self.functions.argument_type(a) for a in self.program.arguments}
        types |= {"track_running_stats": "bool", "num_batches_tracked": "Tensor | None"}
        return [
            Assign((Name(self.attribute(name)),), None, self.comments.get(name, ""), type_)
            for name, type_ in types.items()
            if name in self.read
        ]

    # ---- what `forward` reads

    def _reading_once(self, body: list[Stmt]) -> list[Stmt]:
        # Other layers than those of the spec may have been constructed without these checks.
        body = self._with_values([*self.constructor.length_checks("self."), *body])
        attributes = [path for path in paths_in(tuple(body)) if path.startswith("self.")]
        self.read = {path.removeprefix("self.") for path in attributes}
        if counts_batches(self.program):
            self.read |= {"track_running_stats", "num_batches_tracked"}
        return super()._reading_once(body)

    def _with_values(self, body: list[Stmt]) -> list[Stmt]:
        """The statements, with lengths and flags that the layer may not have in variables."""
        read = set(paths_in(tuple(body)))
        names: dict[str, str] = {}
        statements: list[Stmt] = []
        for argument in self.program.arguments:
            path = f"self.{argument.name}"
            value = self._value(argument) if path in read else None
            if value is not None:
                names[path] = self._variable(argument.name)
                statements.append(Assign((Name(names[path]),), value))
        return [*statements, *renamed(tuple(body), names)]

    def _value(self, argument: Argument) -> Expr | None:
        """An argument as the layer tells it, where that is more than an attribute."""
        if argument.test is not None:
            return self._comparison(argument.test)
        if argument.type != "size":
            return None
        attribute: Expr = Name(f"self.{argument.name}")
        if argument in self.signature.shapes():
            name = Literal(self.attribute(argument.name))
            attribute = call("runtime.as_shape", attribute, name)
        elif argument.name in self.names:
            return None
        return attribute if argument.name in self.names else self._length(argument, attribute)

    def _comparison(self, test: Test) -> Expr:
        """Whether an attribute is this word; it has to be one of those that the spec names."""
        choices = next(a.choices for a in self.program.arguments if a.name == test.of)
        words = Tuple(tuple(map(Literal, choices)))
        attribute, name = Name(f"self.{test.of}"), Literal(self.attribute(test.of))
        return Binary("==", (call("runtime.as_choice", attribute, name, words), Literal(test.text)))

    def _length(self, argument: Argument, attribute: Expr) -> Expr:
        """A length, which the first tensor that has its axis tells, or if the layer has no such
        tensor, an attribute."""
        always: list[ParamDecl | BufferDecl] = [p for p in self.program.params if not p.switches]
        always += [b for b in self.program.buffers if not b.tracked]
        space = self.program.index.space
        for decl in (*always, *(decl for decl in self.program.state if decl not in always)):
            if sum(space[dim].variadic for dim in decl.dims) > 1:
                continue  # where one group of axes ends only its own length tells
            for index, dim in enumerate(decl.dims):
                if space[dim].size != Hyper(argument.name):
                    continue
                tensor = Name(f"self.{decl.name}")
                shape = Attribute(tensor, "shape")
                length = CallChecks(self.program).length_in_shape(shape, decl.dims, index)
                if space[dim].variadic:
                    length = call("tuple", length)
                if decl in always:
                    return length
                self.comments[argument.name] = f"where {self.attribute(decl.name)} is None"
                return IfElse(Binary("is", (tensor, Literal(None))), attribute, length)
        return attribute

    def _variable(self, name: str) -> str:
        """A variable for an argument of this name, which no argument of `forward` has."""
        while name in self.renamed_inputs:
            name += "_"
        return name

    def _local(self, name: str) -> str:
        local = super()._local(name)
        return local if local not in self.renamed_inputs else self._local(f"{local}_")
