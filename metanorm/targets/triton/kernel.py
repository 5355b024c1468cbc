"""The signature of a Triton kernel, and the comment that summarizes a sweep."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.nest.nest import Block
from metanorm.targets.python.pyir import Function, Parameter, Stmt
from metanorm.targets.triton.context import Arguments, KernelContext

# A kernel is compiled per number and dtype, except for momenta and arguments, which may change from
# call to call.
ANNOTATIONS = {
    "number": "tl.constexpr",
    "dtype": "tl.constexpr",
    "momentum": "tl.float64",
    "argument": "tl.float64",
}


def kernel_function(
    function_name: str, doc: str, arguments: Arguments, meta: Sequence[str], body: Sequence[Stmt],
    fixed: Collection[str] = (),
) -> Function:  # fmt: skip
    """A kernel with the given parameters. Triton compiles it per value of the `fixed` keys and of
    the `meta` parameters."""
    parameters = [
        Parameter(name, "tl.constexpr" if key in fixed else parameter_annotation(key))
        for key, name in arguments.keys.items()
    ]
    parameters += [Parameter(name, "tl.constexpr") for name in ("REAL", "INDEX", *meta)]
    return Function(function_name, tuple(parameters), "None", tuple(body), (doc,), ("triton.jit",))


def parameter_annotation(key: str) -> str:
    """The annotation of a key's parameter, by the first word of the key."""
    return ANNOTATIONS.get(key.split(" ")[0], "")


def sweep_summary(context: KernelContext, sweep: Block) -> str:
    """A sweep in words: the statistics that it takes, and the outputs that it writes."""
    clauses = []
    for r in (context.reductions[number] for number in sweep.measures):
        cells = ", ".join(r.cells) or "all"
        value = f" of {r.value}" if not r.value.startswith("%") else ""
        clauses.append(f"{r.row.title}{value} per {cells}")
    clauses += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
    return "; ".join(clauses)
