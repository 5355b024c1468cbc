"""Print the module for norms whose axes are divided among processes, beside the ordinary module.

It has the same functions with messages, and a `forward` for each of them. Calls by a single process
never load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.program import Program
from metanorm.passes.divided import Divided, DividedVariant, divided
from metanorm.passes.local_sweeps import LocalSweeps
from metanorm.targets.python.pyir import (
    Assign,
    Call,
    Dict,
    Expr,
    Literal,
    Name,
    Parameter,
    Stmt,
)
from metanorm.targets.torch.constructor import Constructor
from metanorm.targets.torch.describe import function_doc
from metanorm.targets.torch.dividable import dividable_entry
from metanorm.targets.torch.exchanges import PROCESSES
from metanorm.targets.torch.forward import ForwardPrinter
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.module_from_ir import CompiledNorm
from metanorm.targets.torch.names import NormNames
from metanorm.targets.torch.shared_definitions import PrintedVariant, shared_definitions
from metanorm.targets.torch.signature import Signature
from metanorm.targets.torch.sweep_calls import PrintedSweep
from metanorm.targets.torch.sweeps import SweepPrinter

TABLE = "NORMS"
FIRST = (Parameter("self", "nn.Module"), Parameter(PROCESSES, "runtime.Processes"))
SUFFIXES = ("", "_everywhere")  # of function names: divided samples, all axes divided
CUTTING = "_of_cut_blocks"  # of the function for pieces that may cut blocks

# A function to the sweeps of a variant, if they have kernels.
FindSweeps = Callable[[DividedVariant], "LocalSweeps | None"]


@dataclass(frozen=True)
class ProcessDefinitions:
    """The definitions of a module. `decorators` has that of each function that has one."""

    statements: tuple[Stmt, ...] = ()
    decorators: Mapping[str, str | Expr] = field(default_factory=dict)
    sweeps: tuple[PrintedSweep, ...] = ()


def definitions_among_processes(
    norms: Sequence[CompiledNorm], names: Sequence[NormNames], find_sweeps: FindSweeps
) -> ProcessDefinitions:
    """The functions of all norms that send messages, and a table of all norms. Nothing is printed
    if no norm has an axis that can be divided."""
    entries: list[tuple[Expr, Expr]] = []
    functions: list[Stmt] = []
    decorators: dict[str, str | Expr] = {}
    used = {function.function for norm_names in names for function in norm_names.functions}
    sweeps = SweepPrinter({f"{name}{end}" for name in used for end in (*SUFFIXES, CUTTING)})
    for norm, norm_names in zip(norms, names):
        division = divided(norm.optimised, norm.program)
        if division is None:
            continue
        before = len(sweeps.printed)
        printers = [
            _VariantPrinter(norm, norm_names, variant, division, end, find_sweeps(variant), sweeps)
            for end, variant in zip(_suffixes(division), division.variants)
        ]
        for sweep in list(sweeps.printed.values())[before:]:
            functions += sweep.definitions
        for printer in printers:
            decorators |= printer.decorators()
        definitions, forwards = shared_definitions([printer.print() for printer in printers])
        functions += definitions
        entry = dividable_entry(norm.optimised, division, forwards)
        entries.append((Literal(norm_names.norm), entry))
    if not entries:
        return ProcessDefinitions()
    table = Assign((Name(TABLE),), Dict(tuple(entries)))
    return ProcessDefinitions((*functions, table), decorators, tuple(sweeps.printed.values()))


def _suffixes(division: Divided) -> tuple[str, ...]:
    """What ends the names of the functions of each variant."""
    aligned = [variant for variant in division.variants if not variant.labels]
    return (*SUFFIXES[: len(aligned)], CUTTING)


class _DividedSignature(Signature):
    """The signature in this module, where the class of several outputs is not defined."""

    def returns(self) -> str:
        """The annotation of the result."""
        return "tuple[Tensor, ...]" if len(self.program.outputs) > 1 else "Tensor"


class _VariantPrinter:
    def __init__(
        self,
        norm: CompiledNorm,
        names: NormNames,
        variant: DividedVariant,
        division: Divided,
        end: str,
        local: LocalSweeps | None,
        sweeps: SweepPrinter,
    ) -> None:
        self.variant = variant
        self.division = division
        self.forward = f"_forward_{names.function}{end}"
        self.program = local.program if local else variant.program
        variant_names = replace(
            names, function=f"{names.function}{end}", check=f"{names.check}{end}"
        )
        signature = _DividedSignature(self.program, variant_names)
        self.functions = FunctionPrinter(signature)
        self.constructor = Constructor(signature, norm.base)
        self.names = variant_names
        self.sweeps = sweeps.sweeps(local, variant_names.function) if local else []

    def decorators(self) -> dict[str, str | Expr]:
        """The decorator of each function: of the norm, and of its sweeps."""
        decorator = "runtime.in_sweeps" if self.sweeps else "runtime.among_processes"
        decorators = {self.names.function: with_sorts(decorator, self.program)}
        for printed in self.sweeps:
            name = printed.function.name
            decorators[name] = with_sorts("runtime.sweep", printed.sweep.program)
        return decorators

    def print(self) -> PrintedVariant:
        """The functions of the variant."""
        check = self.functions.check(self.names.check)
        function_docstring = function_doc(self.program)
        function = self.functions.print(
            self.names.function, self.program, function_docstring, self.sweeps
        )
        printer = ForwardPrinter(self.functions, self.constructor, check, function)
        forward = printer.print(self.forward, FIRST, (), (), (), self._arguments())
        return PrintedVariant(self.program.name, self.variant, check, function.function, forward)

    def _arguments(self) -> dict[str, Expr]:
        """What `forward` passes for arguments that depend on the piece: shares of blocks, or labels
        of positions and how many blocks there are."""
        if not self.variant.labels:
            return {
                name: call(f"{PROCESSES}.share", Literal(axis), Name(f"self.{name}"))
                for axis, name in self.division.block_counts.items()
                if axis in self.variant.axes
            }
        arguments: dict[str, Expr] = {}
        for label in self.variant.labels:
            number = label.number
            argument: Expr = Name(f"self.{number}") if isinstance(number, str) else integer(number)
            how = (Literal(label.axis), Literal(label.kind), argument)
            arguments[label.input] = call(f"{PROCESSES}.labels", *how)
            arguments[label.count] = call(f"{PROCESSES}.blocks", *how)
        return arguments


def with_sorts(decorator: str, program: Program) -> str | Expr:
    """A decorator with the sorts of those inputs that are not floating-point tensors."""
    sorts = tuple((i.name, Literal(i.sort)) for i in program.inputs if i.sort != "tensor")
    return Call(Name(decorator), (), sorts) if sorts else decorator
