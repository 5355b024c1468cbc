"""The argument types of a generated class and of its function."""

from __future__ import annotations

from metanorm.ir.momenta import momenta
from metanorm.ir.program import Argument, BufferDecl, InputDecl, Program
from metanorm.ir.scalar import Hyper
from metanorm.targets.torch.names import NormNames

ANNOTATIONS = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "matrix": "runtime.Given",
    "choice": "str",
}


class Signature:
    """The interface of the class and the function of a program."""

    def __init__(self, program: Program, names: NormNames) -> None:
        self.program = program
        self.names = names
        self.space = program.index.space
        self.momenta = momenta(program)
        self.tracked = [b for b in program.buffers if b.tracked]

    def groups(self) -> list[InputDecl]:
        """The index inputs that have a number of groups as a further argument of the function."""
        return [i for i in self.program.inputs if i.names_groups]

    def has_state(self) -> bool:
        """Whether the norm has parameters or buffers."""
        return bool(self.program.params or self.program.buffers)

    def makes_state(self) -> bool:
        """Whether the constructor creates them. A norm for weights creates them for its weight, one
        for gradients or steps in its first call."""
        return self.has_state() and not self.program.for_weights

    def returns(self) -> str:
        """The annotation of the result."""
        several = len(self.program.outputs) > 1
        return self.names.result if several else "Tensor"

    def nullable(self, argument: Argument) -> bool:
        """Whether an argument may be `None`: the momentum, or an argument whose default it is. What
        calls a sweep has replaced it."""
        if self.program.target == "sweep":
            return False
        is_momentum = Hyper(argument.name) in self.momenta
        no_default = argument.default is None and not argument.required
        return argument.type == "float" and (is_momentum or no_default)

    def annotation(self, argument: Argument) -> str:
        """The type of a constructor argument."""
        if argument.type == "size":
            variadic = any(self.space[axis].variadic for axis in argument.axes)
            return "int | Sequence[int]" if variadic else "int"
        return ANNOTATIONS[argument.type] + (" | None" if self.nullable(argument) else "")

    def shapes(self) -> list[Argument]:
        """The arguments that give the shape of a group of axes."""
        sizes = [a for a in self.program.arguments if a.type == "size"]
        return [a for a in sizes if any(self.space[axis].variadic for axis in a.axes)]

    def buffer_type(self, buffer: BufferDecl) -> str:
        """The type of a buffer; running statistics can be switched off."""
        return "Tensor | None" if buffer.tracked else "Tensor"
