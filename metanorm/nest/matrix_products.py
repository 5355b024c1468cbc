"""Find matrix products, which are left to torch's BLAS.

A matrix product is a sum of products with a renamed factor, as in `sum(x * x[C -> D] over *S)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.nodes import Let, Map, Op, Pool, Ref, Rename, Repeat
from metanorm.ir.operands import operands
from metanorm.ir.program import Program

SUMMING_STATISTICS = ("sum", "mean")


def multiplies_data(program: Program) -> bool:
    """Whether the data is a factor of a matrix product."""
    space, types = program.index.space, program.index.types
    data = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
    renamed = _renamed_factors(program.body)
    return any(data <= set(types[rename.value].axes) for rename in renamed)


def only_multiplies_larger(program: Program) -> bool:
    """Whether some values are larger than the data, and all of these are products that are summed.

    torch's matrix products never make such values, while kernels compute each. Kernels are
    worth that only if the norm has another statistic of them, for which torch makes the tensor.
    """
    space = program.index.space
    data = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
    larger = {let.name: let.op for let in program.body if data < set(let.type.axes)}
    readers = [let.op for let in program.body if not larger.keys().isdisjoint(operands(let.op))]
    return bool(larger) and all(
        (isinstance(op, Map) and op.function == "mul")
        or (isinstance(op, Pool) and op.statistic in SUMMING_STATISTICS and op.value in larger)
        for op in (*larger.values(), *readers)
    )


def multiplies_in_loops(program: Program) -> bool:
    """Whether a `repeat` loop has a matrix product in its body."""
    return any(True for body in _loops(program.body) for _ in _renamed_factors(body))


def _loops(lets: Iterable[Let]) -> Iterator[tuple[Let, ...]]:
    """The bodies of `repeat` loops, nested ones among them."""
    for let in lets:
        if isinstance(let.op, Repeat):
            yield let.op.body
            yield from _loops(let.op.body)


def _renamed_factors(lets: Iterable[Let]) -> Iterator[Rename]:
    """The renamed factors of products that these bindings sum up."""
    ops = {let.name: let.op for let in lets}
    for op in ops.values():
        if isinstance(op, Pool) and op.statistic in SUMMING_STATISTICS:
            for factor in _factors(op.value, ops):
                if isinstance(factor, Rename):
                    yield factor


def _factors(ref: Ref, ops: dict[Ref, Op]) -> Iterator[Op]:
    """The factors of a value, if these bindings define it."""
    op = ops.get(ref)
    if isinstance(op, Map) and op.function == "mul":
        for argument in op.arguments:
            yield from _factors(argument, ops)
    elif op is not None:
        yield op
