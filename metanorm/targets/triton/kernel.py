"""What all kernels have: a signature, and words for what they do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.nest.nest import Block
from metanorm.targets.python.pyir import Function, Parameter, Stmt
from metanorm.targets.triton.context import Arguments, KernelContext

# Numbers and dtypes are part of what is compiled, but for numbers that change from call to call.
ANNOTATIONS = {"number": "tl.constexpr", "dtype": "tl.constexpr", "momentum": "tl.float64"}


def function_of(
    name: str, doc: str, arguments: Arguments, meta: Sequence[str], body: Sequence[Stmt],
    fixed: Collection[str] = (),
) -> Function:  # fmt: skip
    """A kernel with its parameters in the order in which they were first needed. It is compiled
    for the values of those that are `fixed`."""
    parameters = [
        Parameter(own, "tl.constexpr" if key in fixed else annotation_of(key))
        for key, own in arguments.keys.items()
    ]
    parameters += [Parameter(own, "tl.constexpr") for own in ("REAL", "INDEX", *meta)]
    return Function(name, tuple(parameters), "None", tuple(body), (doc,), ("triton.jit",))


def annotation_of(key: str) -> str:
    """The annotation of the parameter for a key, by the first word of that."""
    return ANNOTATIONS.get(key.split(" ")[0], "")


def what(context: KernelContext, sweep: Block) -> str:
    """What a sweep does, in words."""
    done = []
    for r in (context.numbered[number] for number in sweep.measures):
        cells = ", ".join(r.cells) or "all"
        value = f" of {r.value}" if not r.value.startswith("%") else ""
        done.append(f"{r.row.title}{value} per {cells}")
    done += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
    return "; ".join(done)
