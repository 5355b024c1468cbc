"""How the classes of norms for activations, weights, gradients, steps and losses differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.nodes import Pool
from metanorm.ir.program import Program


@dataclass(frozen=True)
class NormKind:
    """The base class, the docstring of `forward`, and how the class is used, as templates.

    An attached one is called for each parameter of an optimizer, with one of the `tensors`.
    `second` is the class attribute that says whether it takes a second input, `with_second` the
    sentence about that.
    """

    base: str
    call_doc: str
    usage: str = ""
    tensors: str = ""
    second: str = ""
    with_second: str = ""

    @property
    def is_attached(self) -> bool:
        """Whether an optimizer calls it for each of its parameters."""
        return bool(self.second)


NORM_KINDS = {
    "activation": NormKind("nn.Module", "Normalize `{input}`."),
    "weight": NormKind(
        "nn.Module",
        "The weight that a layer computes with, for the one that is learned.",
        "A parametrization: `register_parametrization(layer, 'weight', {name}(...))` of "
        "`torch.nn.utils.parametrize` puts it on a layer, `runtime.on_weights(model, {name})` on "
        "those of a model.",
    ),
    "gradient": NormKind(
        "runtime.GradientNorm",
        "The gradient that is learned from, for the one that arrives.",
        "`{name}(...).attach(to)` has it applied to the gradients of a parameter, a model or an "
        "optimizer.",
        tensors="Gradients",
        second="takes_weight",
        with_second="It is given each parameter beside its gradient.",
    ),
    "step": NormKind(
        "runtime.StepNorm",
        "What becomes of a weight, for the one that a step has left.",
        "`{name}(...).attach(optimizer)` has each weight replaced so, at once and after each step.",
        tensors="Weights",
        second="takes_before",
        with_second="It is given each weight as it was before the step, too.",
    ),
    "loss": NormKind(
        "nn.Module",
        "The loss of `{input}`, a scalar.",
        "`runtime.collect(model, {name}(...), layers)` has it taken of the outputs of layers.",
    ),
}
MADE_LATER = "Its parameters get their lengths and first values from the weight that it is put on."
LEFT_ALONE = "{tensors} with fewer dimensions than {fewest} are left alone."
WITH_STATE = (
    "What it keeps is kept for each parameter, in the optimizer's state; called by itself, for the "
    "tensors of one."
)


def norm_kind(program: Program) -> NormKind:
    """The kind of a norm, with its templates filled in."""
    kind = NORM_KINDS[program.target]
    fewest = fewest_dims(program)
    usage = kind.usage
    if program.target == "weight" and (program.params or program.buffers):
        usage += f" {MADE_LATER}"
    if kind.is_attached and fewest > 0:
        usage += f" {LEFT_ALONE}"
    if kind.is_attached and len(program.inputs) > 1:
        usage += f" {kind.with_second}"
    if kind.is_attached and program.buffers:
        usage += f" {WITH_STATE}"
    replacements = {
        "name": program.name,
        "input": program.inputs[0].name,
        "fewest": str(fewest),
        "tensors": kind.tensors,
    }
    return replace(
        kind, call_doc=kind.call_doc.format(**replacements), usage=usage.format(**replacements)
    )


def most_dims(program: Program) -> int | None:
    """The maximum rank of the first input; `None` if a group of axes has any rank."""
    dims = program.inputs[0].dims
    return None if any(program.index.space[dim].variadic for dim in dims) else len(dims)


def fewest_dims(program: Program) -> int:
    """The minimum rank of the first input for which every pool has an axis.

    `over *I` has none in a tensor `[O, *I]` of one dimension, such as the gradient of a bias,
    from which its mean would leave zero.
    """
    space = program.index.space
    single = [dim for dim in program.inputs[0].dims if not space[dim].variadic]
    pools = (let.op for let in program.body if isinstance(let.op, Pool))
    needs_group = any(all(space[axis].variadic for axis, _ in pool.over) for pool in pools)
    return len(single) + needs_group
