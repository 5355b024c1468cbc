"""The way out of a function for an input without elements."""

from __future__ import annotations

from metanorm.ir.nodes import Program
from metanorm.ir.outputs import output_dims
from metanorm.targets.python.pyir import Binary, Expr, If, Name, Return, Stmt, Tuple
from metanorm.targets.torch.checks import CallChecks
from metanorm.targets.torch.layout import call, integer, method

DIFFERENTIABLE = ("tensor", "matrix")  # sorts of inputs that have gradients


def way_out(program: Program, result: str) -> Stmt:
    """Results for an input that has no elements; `result` is their class, if they are several."""
    x = Name(program.inputs[0].name)
    empty = Binary("==", (method(x, "numel"), integer(0)))
    others = [i.name for i in program.inputs[1:] if i.sort in DIFFERENTIABLE]
    others += [p.name for p in program.params]
    sources = Tuple(tuple(map(Name, others)))
    first: Expr = call("runtime.no_elements", x, sources)
    if not program.keeps_shape:
        first = method(first, "sum")
    first = method(first, "to", Name("dtype"))
    if len(program.outputs) == 1:
        return If(empty, (Return(first),))
    checks = CallChecks(program, owner="")
    checks.shapes()  # which finds out where lengths can be read
    results = [first]
    for name, ref in program.outputs[1:]:
        shape = checks.shape(output_dims(program, name, ref))
        zeros = call("runtime.no_elements", x, sources, shape)
        results.append(method(zeros, "to", Name("dtype")))
    return If(empty, (Return(call(result, *results)),))
