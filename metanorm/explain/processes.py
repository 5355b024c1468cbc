"""What processes exchange if an axis of a norm is divided among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from metanorm.ir.batch import crosses_samples
from metanorm.ir.division import exchanges, message_depths
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.nest.eligibility import NoKernels
from metanorm.passes.divided import (
    Divided,
    DividedVariant,
    cutting_variant,
    divided,
    divided_variant,
)
from metanorm.passes.exchange import CannotDivide
from metanorm.targets.process_kernels import SWEEP_TARGET, sweeps_with_kernels
from metanorm.targets.registry import KERNEL_TARGETS


def exchanges_by_axis(program: Program, unoptimised: Program) -> tuple[str, ...]:
    """A line for each axis of the data of an optimised norm, given also before the passes."""
    division = divided(program, unoptimised)
    if division is None:
        return ()
    in_evaluation = bool(crosses_samples(program, evaluating=True))
    lines = []
    for axis in dict.fromkeys(dim for decl in program.given_inputs for dim in decl.dims):
        text = _axis_line(program, unoptimised, division, axis)
        if axis in division.sample_axes and not in_evaluation and text.startswith("exchanges"):
            text += ", in training"
        lines.append(f"{_program_axis_text(program, axis)} {text}")
    return (*lines, *_kernels(division))


def _axis_line(program: Program, unoptimised: Program, division: Divided, axis: str) -> str:
    """What processes exchange that have pieces of one axis."""
    if axis in division.refusals:
        return f"cannot be divided: {division.refusals[axis]}"
    cutting = cutting_variant(unoptimised, axis) if axis in division.blocks else None
    cut_text = exchange_text(cutting.program, axis) if cutting and cutting.exchanged else ""
    try:
        exchanged = divided_variant(program, (axis,)).exchanged
    except CannotDivide:
        return f"exchanges {cut_text}"
    text = "needs nothing from other processes"
    if exchanged:  # by the function that a call takes, whose messages other axes keep apart
        variant = next(v for v in division.variants if axis in v.exchanged and not v.labels)
        text = f"exchanges {exchange_text(variant.program, axis)}"
    return f"{text}; where a piece cuts a block, it exchanges {cut_text}" if cut_text else text


def _kernels(division: Divided) -> Iterator[str]:
    """A line for each reason why what is divided runs on plain torch, or for kernels."""
    axes_by_text: dict[str, list[str]] = {}
    for variant in division.variants:
        if variant.labels:
            yield f"where pieces cut blocks, {_kernel_text(variant)}"
        elif variant.exchanged:
            text = _kernel_text(variant)
            axes_by_text.setdefault(text, []).append(" and ".join(variant.exchanged))
    for text, axes in axes_by_text.items():
        yield text if len(axes_by_text) == 1 else f"{text}, over {' or '.join(axes)}"


def _kernel_text(variant: DividedVariant) -> str:
    """The languages that all sweeps have kernels in, or why they have none."""
    languages = []
    for target in KERNEL_TARGETS.values():
        try:
            sweeps_with_kernels(variant, target)
            languages.append(target.language)
        except NoKernels as reason:
            if target is SWEEP_TARGET:
                return f"plain torch alone: {reason}"
    return f"kernels in {' and '.join(languages)} between messages"


def exchange_text(program: Program, axis: str) -> str:
    """The number of values that a program sends if this one of its divided axes is cut, and the
    number of messages."""
    space = Space(program.axes)
    types = {let.name: let.type.axes for let in program.body}
    parts = {*space.leaves(axis)}
    sent = {  # once, though in both modes
        op: ref for ref, op in exchanges(program).items() if not parts.isdisjoint(op.axes)
    }
    sizes = Counter(
        " * ".join(_axis_text(space, axis) for axis in types[ref]) for ref in sent.values()
    )
    terms = [
        (f"{count} * {size}" if count > 1 else size) if size else str(count)
        for size, count in sorted(sizes.items(), key=lambda item: (not item[0], item[0]))
    ]
    depths = message_depths(program)
    # Largest values and sums travel apart, as each number of a message is joined alike. So do
    # values that further axes may divide, among other processes.
    messages = len({(depths[ref], op.is_sum, op.axes) for op, ref in sent.items()})
    how = "in one message" if messages == 1 else f"in {messages} messages"
    plural = "" if terms == ["1"] else "s"
    return f"{' + '.join(terms)} number{plural} {how}"


def _axis_text(space: Space, axis: str) -> str:
    return f"*{axis}" if space[axis].variadic else axis


def _program_axis_text(program: Program, axis: str) -> str:
    return _axis_text(Space(program.axes), axis)
