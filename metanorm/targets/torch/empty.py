"""Print the early return of a function for an input without elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metanorm.ir.outputs import output_dims
from metanorm.targets.python.pyir import Assign, Binary, Expr, If, Name, Return, Stmt, Tuple
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import call, integer, method


@dataclass(frozen=True)
class IndependentOutputs:
    """Outputs that do not depend on the first input, and the statements that compute them."""

    outputs: Mapping[str, Expr] = field(default_factory=dict)
    statements: Sequence[Stmt] = ()


DIFFERENTIABLE = ("tensor", "matrix")  # sorts of inputs that have gradients


def empty_input_guard(context: Context, result: str, independent: IndependentOutputs) -> Stmt:
    """The statement that returns early if the first input has no elements.

    Outputs that depend on the input are zero. `result` is the class of several outputs.
    """
    program = context.program
    x = Name(program.inputs[0].name)
    empty = Binary("==", (method(x, "numel"), integer(0)))
    gradient_sources = [i.name for i in program.given_inputs[1:] if i.sort in DIFFERENTIABLE]
    gradient_sources += [p.name for p in program.params]
    sources = Tuple(tuple(map(Name, gradient_sources)))
    checks = CallChecks(program, owner="")
    checks.shapes()  # which finds out where lengths can be read
    results: dict[str, Expr] = {}
    for name, ref in program.outputs:
        is_first = name == program.outputs[0][0]
        if program.target == "loss" and is_first:
            zeros = method(call("runtime.no_elements", x, sources), "sum")
        elif program.keeps_shape and is_first:
            zeros = call("runtime.no_elements", x, sources)
        elif name not in independent.outputs:
            shape = checks.shape(output_dims(program, name, ref))
            zeros = call("runtime.no_elements", x, sources, shape)
        else:
            continue
        results[name] = method(zeros, "to", context.dtype_of(name))
    if len(program.outputs) == 1 and results:
        return If(empty, (Return(results.popitem()[1]),))
    before: list[Stmt] = []
    if independent.statements:  # they may split the input
        for name, expr in results.items():
            results[name] = Name(context.local(name))
            before.append(Assign((results[name],), expr))
    exprs = {**results, **independent.outputs}
    values = [exprs[name] for name, _ in program.outputs]
    returned = Return(call(result, *values) if len(values) > 1 else values[0])
    return If(empty, (*before, *independent.statements, returned))
