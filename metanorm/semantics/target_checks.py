"""Checks of norms for weights, gradients and losses, for which some statements make no sense."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.structure import NotForTarget
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import Buffer, Mode, Param
from metanorm.semantics.lowering import Lowering
from metanorm.source import Span
from metanorm.syntax import ast

LEARNED_OPS = (Param, Mode)  # operations whose value training or the mode decides


def check_target(norm: ast.Norm, low: Lowering, problems: Collector) -> None:
    """Report each statement that the target of the norm does not allow."""
    if low.target in ("weight", "gradient"):
        for span, lacks, hint in _extra_inputs_and_outputs(norm, low):
            problems.add(NotForTarget(span, low.target, lacks, hint))
    if low.target == "gradient":
        for span, lacks in _kept_state(norm, low):
            hint = "a number is a hyperparameter: `norm Name(strength = 0.1) for gradient`"
            problems.add(NotForTarget(span, low.target, lacks, hint))
    buffers = {buffer.name for buffer in low.buffers}
    for name, ref in low.initializers.items():
        changing = LEARNED_OPS if name in buffers else (*LEARNED_OPS, Buffer)
        if any(isinstance(let.op, changing) for let in backward_slice({ref}, low.body)):
            hint = f"compute `{name}` from the weight and from hyperparameters"
            lacks = "first values of the weight alone"
            problems.add(NotForTarget(low.spans[ref], low.target, lacks, hint))


def _extra_inputs_and_outputs(norm: ast.Norm, low: Lowering) -> Iterator[tuple[Span, str, str]]:
    """Inputs that no layer or optimizer provides, and outputs after the first.

    An optimizer provides the gradient and the weight, with the same axes.
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
    provided = "weight is" if low.target == "weight" else "gradient and the weight are"
    for item, _ in further:
        yield item.span, lacks, f"the {provided} all that it is given"
    for output in outputs[1:]:
        yield output.span, "one output", f"it takes the place of the {low.target}"


def _kept_state(norm: ast.Norm, low: Lowering) -> Iterator[tuple[Span, str]]:
    """Parameters and buffers, once for each span: a norm for all gradients can have none."""
    lacks_by_name = [(p.name, "no parameters") for p in low.params]
    lacks_by_name += [(b.name, "no buffers") for b in low.buffers]
    lacks_by_span = {low.spans.get(name, norm.name.span): lacks for name, lacks in lacks_by_name}
    yield from lacks_by_span.items()
