"""The module for norms whose axes are divided among processes: it stands beside the other one.

It has the same functions with messages in them, and a `forward` for each. So nothing of it is in
the way of calls by a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.nodes import Program
from metanorm.passes.divided import Divided, DividedVariant, divided
from metanorm.targets.python.pyir import (
    Assign,
    Dict,
    Expr,
    Literal,
    Name,
    Parameter,
    Stmt,
    Tuple,
)
from metanorm.targets.torch.constructor import Constructor
from metanorm.targets.torch.describe import function_doc
from metanorm.targets.torch.exchanges import PROCESSES
from metanorm.targets.torch.forward import ForwardPrinter
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.layout import call
from metanorm.targets.torch.module_from_ir import Compiled
from metanorm.targets.torch.names import Names
from metanorm.targets.torch.signature import Signature

TABLE = "NORMS"
FIRST = (Parameter("self", "nn.Module"), Parameter(PROCESSES, "runtime.Processes"))
ENDS = ("", "_everywhere")  # of the names of functions for samples, and for all axes


def definitions_among_processes(
    norms: Sequence[Compiled], names: Sequence[Names]
) -> tuple[Stmt, ...]:
    """The functions of all norms that exchange anything, and a table of all norms; nothing where
    no norm has an axis that could be divided."""
    entries: list[tuple[Expr, Expr]] = []
    functions: list[Stmt] = []
    for norm, own in zip(norms, names):
        known = divided(norm.optimised)
        if known is None:
            continue
        printed = []
        for end, variant in zip(ENDS, known.variants):
            made = _Variant(norm, own, variant, known, end)
            functions += made.definitions()
            printed.append(made)
        entries.append((Literal(own.norm), _entry(norm.optimised, known, printed)))
    if not entries:
        return ()
    return (*functions, Assign((Name(TABLE),), Dict(tuple(entries))))


def _entry(program: Program, known: Divided, printed: Sequence[_Variant]) -> Expr:
    """What the runtime has to know of a norm."""

    def words(items: Sequence[str]) -> Expr:
        return Tuple(tuple(map(Literal, items)))

    def table(pairs: dict[str, str]) -> Expr | None:
        return Dict(tuple((Literal(k), Literal(v)) for k, v in pairs.items())) if pairs else None

    forwards = tuple(
        call(
            "runtime.AmongProcesses",
            Name(v.forward),
            axes=words(v.variant.axes),
            exchanged=words(v.variant.exchanged),
        )
        for v in printed
    )
    return call(
        "runtime.Dividable",
        digest=Literal(fingerprint(program)[:16]),
        samples=words(known.sample_axes),
        parameters=Dict(tuple((Literal(p.name), words(p.dims)) for p in program.params)),
        refused=table(dict(known.refusals)),
        shares=table(dict(known.block_counts)),
        lacking=table(dict(known.outputs_without_axis)),
        variants=Tuple(forwards) if forwards else None,
    )


class _Divided(Signature):
    """Where the class of several outputs is not known: it is that of the module beside this one."""

    def returns(self) -> str:
        """The annotation of the result."""
        return "tuple[Tensor, ...]" if len(self.program.outputs) > 1 else "Tensor"


class _Variant:
    def __init__(
        self, norm: Compiled, names: Names, variant: DividedVariant, known: Divided, end: str
    ) -> None:
        self.variant = variant
        self.known = known
        self.forward = f"_forward_{names.function}{end}"
        self.program = variant.program
        own = replace(names, function=f"{names.function}{end}", check=f"{names.check}{end}")
        signature = _Divided(self.program, own)
        self.functions = FunctionPrinter(signature)
        self.constructor = Constructor(signature, norm.base)
        self.names = own

    def definitions(self) -> tuple[Stmt, ...]:
        check = self.functions.check(self.names.check)
        doc = function_doc(self.program)
        own = self.functions.printed(self.names.function, self.program, doc)
        printer = ForwardPrinter(self.functions, self.constructor, check, own)
        axes = ", ".join(self.variant.axes)
        told = (
            f"`{self.program.name}.forward` for one of the processes that have pieces of {axes}.",
        )
        shares = {
            name: call(f"{PROCESSES}.share", Literal(axis), Name(f"self.{name}"))
            for axis, name in self.known.block_counts.items()
            if axis in self.variant.axes
        }
        forward = printer.printed(self.forward, FIRST, (), (), told, shares)
        return check, own.function, forward
