"""What all kernels have: a signature, and words for what they do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.nest.nest import Block
from metanorm.targets.python.pyir import Function, Parameter, Stmt
from metanorm.targets.triton.context import Arguments, KernelContext

# Numbers and dtypes are part of what is compiled, but for numbers that change from call to call.
ANNOTATIONS = {"number": "tl.constexpr", "dtype": "tl.constexpr", "momentum": "tl.float64"}


def kernel_function(
    function_name: str, doc: str, arguments: Arguments, meta: Sequence[str], body: Sequence[Stmt],
    fixed: Collection[str] = (),
) -> Function:  # fmt: skip
    """A kernel with its parameters in the order in which they were first needed. It is compiled
    for the values of those that are `fixed`."""
    parameters = [
        Parameter(name, "tl.constexpr" if key in fixed else parameter_annotation(key))
        for key, name in arguments.keys.items()
    ]
    parameters += [Parameter(name, "tl.constexpr") for name in ("REAL", "INDEX", *meta)]
    return Function(function_name, tuple(parameters), "None", tuple(body), (doc,), ("triton.jit",))


def parameter_annotation(key: str) -> str:
    """The annotation of the parameter for a key, by the first word of that."""
    return ANNOTATIONS.get(key.split(" ")[0], "")


def sweep_summary(context: KernelContext, sweep: Block) -> str:
    """What a sweep does, in words."""
    clauses = []
    for r in (context.reductions[number] for number in sweep.measures):
        cells = ", ".join(r.cells) or "all"
        value = f" of {r.value}" if not r.value.startswith("%") else ""
        clauses.append(f"{r.row.title}{value} per {cells}")
    clauses += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
    return "; ".join(clauses)
