"""Checks of what norms for weights, gradients, steps and losses cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.structure import NotForTarget
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import Buffer, Mode, Param
from metanorm.ir.program import FOR_WEIGHTS, ParamDecl
from metanorm.semantics.lowering import Lowering
from metanorm.source import Span
from metanorm.syntax import ast


@dataclass(frozen=True)
class OptimizerInputs:
    """The two inputs that an optimizer has for a norm, and why their axes are the same. A norm may
    leave out the second."""

    first: str
    second: str
    same_axes: str


# By target: norms that an optimizer calls for each of its parameters.
OPTIMIZER_INPUTS = {
    "gradient": OptimizerInputs(
        "the gradient", "the weight", "the weight has the axes of its gradient"
    ),
    "step": OptimizerInputs(
        "the weight", "the weight before the step", "a step keeps the axes of the weight"
    ),
}
LEARNED_OPS = (Param, Mode)  # operations whose value training or the mode decides


def check_target(norm: ast.Norm, low: Lowering, problems: Collector) -> None:
    """Report each statement that the target of the norm does not allow."""
    if low.target in FOR_WEIGHTS:
        for span, lacks, hint in _extra_inputs_and_outputs(norm, low):
            problems.add(NotForTarget(span, low.target, lacks, hint))
    if low.target in OPTIMIZER_INPUTS:
        hints = {low.spans.get(p.name, norm.name.span): _in_place_of(p, low) for p in low.params}
        for span, hint in hints.items():
            problems.add(NotForTarget(span, low.target, "no parameters", hint))
    buffers = {buffer.name for buffer in low.buffers}
    for name, ref in low.initializers.items():
        changing = LEARNED_OPS if name in buffers else (*LEARNED_OPS, Buffer)
        if any(isinstance(let.op, changing) for let in backward_slice({ref}, low.body)):
            hint = f"compute `{name}` from the weight and from hyperparameters"
            lacks = "first values of the weight alone"
            problems.add(NotForTarget(low.spans[ref], low.target, lacks, hint))


def _in_place_of(param: ParamDecl, low: Lowering) -> str:
    """What to write instead of a parameter of a norm that an optimizer calls."""
    if not param.dims:
        return f"a number is a hyperparameter: `norm Name({param.name} = 0.1) for {low.target}`"
    dims = ", ".join(map(low.table.shown, param.dims))
    return (
        f"what is kept from step to step is a buffer, `buffer {param.name}[{dims}] = 1`; what is "
        "learned belongs to a norm `for weight`"
    )


def _extra_inputs_and_outputs(norm: ast.Norm, low: Lowering) -> Iterator[tuple[Span, str, str]]:
    """Inputs that no layer or optimizer provides, and outputs after the first.

    An optimizer provides a second one, with the same axes.
    """
    inputs = [i for s in norm.statements if isinstance(s, ast.Input) for i in s.items]
    outputs = [i for s in norm.statements if isinstance(s, ast.Output) for i in s.items]
    first, *further = zip(inputs, low.inputs)
    provided_inputs = OPTIMIZER_INPUTS.get(low.target)
    if provided_inputs is not None and further:
        (item, decl), *further = further
        dims = ", ".join(low.table.shown(dim) for dim in first[1].dims)
        if decl.sort != "tensor" or not decl.required or decl.dims != first[1].dims:
            hint = f"write `{item.name.name}[{dims}]`: {provided_inputs.same_axes}"
            yield item.span, f"no second input but {provided_inputs.second}", hint
    if provided_inputs is None:
        first_input, lacks, provided = "the weight", "one input", "the weight is"
    else:
        first_input, lacks = provided_inputs.first, "two inputs"
        provided = f"{first_input} and {provided_inputs.second} are"
    for item, _ in further:
        hint = f"{provided} all that it is given"
        if low.target == "weight":
            hint += "; what changes from call to call belongs to a norm of activations"
        yield item.span, lacks, hint
    for output in outputs[1:]:
        yield output.span, "one output", f"it takes the place of {first_input}"
