"""What a norm for weights, gradients or losses cannot have, since nobody could give or train it."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.structure import NotForTarget
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import Buffer, Mode, Param
from metanorm.semantics.lowering import Lowering
from metanorm.source import Span
from metanorm.syntax import ast

LEARNED = (Param, Mode)  # what training or evaluation decides


def check_target(norm: ast.Norm, low: Lowering, problems: Collector) -> None:
    """A problem for each statement that does not go with what the norm is for."""
    if low.target in ("weight", "gradient"):
        for span, lacks, hint in _single(norm, low):
            problems.add(NotForTarget(span, low.target, lacks, hint))
    if low.target == "gradient":
        for span, lacks in _state(norm, low):
            hint = "a number is a hyperparameter: `norm Name(strength = 0.1) for gradient`"
            problems.add(NotForTarget(span, low.target, lacks, hint))
    buffers = {buffer.name for buffer in low.buffers}
    for name, ref in low.initializers.items():
        changing = LEARNED if name in buffers else (*LEARNED, Buffer)
        if any(isinstance(let.op, changing) for let in backward_slice({ref}, low.body)):
            hint = f"compute `{name}` from the weight and from hyperparameters"
            lacks = "first values of the weight alone"
            problems.add(NotForTarget(low.spans[ref], low.target, lacks, hint))


def _single(norm: ast.Norm, low: Lowering) -> Iterator[tuple[Span, str, str]]:
    """Inputs which no layer and no optimizer gives, and outputs after the first.

    An optimizer has the weight beside its gradient, with the same axes.
    """
    inputs = [i for s in norm.statements if isinstance(s, ast.Input) for i in s.items]
    outputs = [i for s in norm.statements if isinstance(s, ast.Output) for i in s.items]
    first, *further = zip(inputs, low.inputs)
    if low.target == "gradient" and further:
        (item, decl), *further = further
        dims = ", ".join(low.table.shown(dim) for dim in first[1].dims)
        if decl.sort != "tensor" or not decl.required or decl.dims != first[1].dims:
            hint = f"write `{item.name.name}[{dims}]`: the weight has the axes of its gradient"
            yield item.span, "no second input but the weight", hint
    lacks = "one input" if low.target == "weight" else "two inputs"
    given = "weight is" if low.target == "weight" else "gradient and the weight are"
    for item, _ in further:
        yield item.span, lacks, f"the {given} all that it is given"
    for output in outputs[1:]:
        yield output.span, "one output", f"it takes the place of the {low.target}"


def _state(norm: ast.Norm, low: Lowering) -> Iterator[tuple[Span, str]]:
    """What would be kept from call to call, and for which tensor of all? Once for each place."""
    named = [(p.name, "no parameters") for p in low.params]
    named += [(b.name, "no buffers") for b in low.buffers]
    places = {low.spans.get(name, norm.name.span): lacks for name, lacks in named}
    yield from places.items()
