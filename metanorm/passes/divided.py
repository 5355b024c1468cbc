"""The axes along which a norm can be divided among processes, and its programs for pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.batch import sample_axes
from metanorm.ir.division import exchanges
from metanorm.ir.nodes import Count, Exchange, Let, Near, Op, Pool
from metanorm.ir.operands import every_let
from metanorm.ir.outputs import output_dims
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Check, Divisible, Equal, Holds, MinimumPoolSize, Program
from metanorm.ir.scalar import Hyper, Scalar, SizeOf, hyperparameters_in, leaves
from metanorm.ir.space import Space
from metanorm.passes.cut_blocks import BlockLabels, with_block_labels
from metanorm.passes.exchange import CannotDivide, exchange
from metanorm.passes.pipeline import optimize


@dataclass(frozen=True)
class DividedVariant:
    """The program of a process that has a piece of some axes of tensors.

    Pieces may cut the blocks of an axis that has `labels`.
    """

    axes: tuple[str, ...]
    program: Program
    exchanged: tuple[str, ...]  # the axes over which processes send messages
    labels: tuple[BlockLabels, ...] = ()


@dataclass(frozen=True)
class Divided:
    """How a norm can be divided among processes.

    `refusals` holds, by axis, the reason why it cannot be divided; `block_counts` the argument of
    the constructor that counts its blocks, of which each process has a share;
    `outputs_without_axis` an output that lacks it. Pieces of the `aligned` axes must not cut a
    graph, a block or a run of positions. `blocks` has the partitions of each axis whose blocks
    pieces may cut, by the last of the `variants`. Where there are two others, the first divides
    samples alone, with fewer messages.
    """

    sample_axes: tuple[str, ...]
    refusals: Mapping[str, str]
    block_counts: Mapping[str, str]
    outputs_without_axis: Mapping[str, str]
    aligned: tuple[str, ...]
    variants: tuple[DividedVariant, ...]
    blocks: Mapping[str, tuple[BlockLabels, ...]] = field(default_factory=dict)


def divided(program: Program, unoptimised: Program | None = None) -> Divided | None:
    """How an optimised norm can be divided; `None` for a target without axes of data.

    Pieces may cut blocks only where its program before the passes is given, too.
    """
    if program.target not in ("activation", "loss"):
        return None
    one_process = _reason_of_one_process(program)
    if one_process:
        refusals = dict.fromkeys(_data_axes(program), one_process)
        return Divided(sample_axes(program), refusals, {}, {}, (), ())
    aligned = _aligned(program)
    cut = None if unoptimised is None else _cutting(unoptimised)
    return aligned if cut is None else _with_cut_blocks(program, aligned, *cut)


def _data_axes(program: Program) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dim for decl in program.given_inputs for dim in decl.dims))


def _reason_of_one_process(program: Program) -> str:
    """Why no axis of a norm can be divided; empty if that depends on the axis."""
    if program.backward is not None:
        return "it states its backward pass, which is that of one process"
    first = next((decl.name for decl in program.state if decl.first), "")
    return f"`{first}` begins with the first batch of one process" if first else ""


def _allowed(
    program: Program, block_counts: dict[str, str] | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The axes that can be divided together, and for each other one the reason. The arguments that
    count blocks are added to `block_counts`, where pieces must not cut any."""
    allowed: list[str] = []
    refusals: dict[str, str] = {}
    for axis in _data_axes(program):
        if reason := _why_draws_refuse(program, axis):
            refusals[axis] = reason
            continue
        try:
            if block_counts is not None:
                block_counts |= _block_count(program, axis)
            # With those before it: what can be divided by itself need not go with others.
            exchange(program, _outermost_parts(program, (*allowed, axis)))
        except CannotDivide as error:
            refusals[axis] = error.reason
        else:
            allowed.append(axis)
    return tuple(allowed), refusals


def _cutting(unoptimised: Program) -> tuple[DividedVariant, tuple[str, ...]] | None:
    """The variant whose pieces may cut blocks, and the axes that may not be cut all the same."""
    cut = with_block_labels(unoptimised)
    if cut is None:
        return None
    program = optimize(cut.program)
    allowed, _ = _allowed(program, None)
    if not cut.axes & {*allowed}:
        return None
    variant = replace(divided_variant(program, allowed), labels=cut.labels)
    return variant, tuple(axis for axis in cut.axes if _is_aligned(program, axis))


def cutting_variant(unoptimised: Program, axis: str) -> DividedVariant | None:
    """The variant of pieces of one axis that may cut its blocks; `None` if it has none."""
    cut = with_block_labels(unoptimised)
    if cut is None or axis not in cut.axes:
        return None
    try:
        return divided_variant(optimize(cut.program), (axis,))
    except CannotDivide:
        return None


def _with_cut_blocks(
    program: Program, known: Divided, variant: DividedVariant, aligned: tuple[str, ...]
) -> Divided:
    blocks: dict[str, tuple[BlockLabels, ...]] = {}
    for label in variant.labels:
        if label.axis in variant.axes:
            blocks[label.axis] = (*blocks.get(label.axis, ()), label)
    return replace(
        known,
        refusals={a: reason for a, reason in known.refusals.items() if a not in variant.axes},
        outputs_without_axis={
            **known.outputs_without_axis, **_outputs_without_axis(program, variant.axes),
        },
        aligned=tuple(a for a in known.aligned if a not in blocks or a in aligned),
        variants=(*(known.variants or _whole_blocks(program, known)), variant),
        blocks=blocks,
    )  # fmt: skip


def _whole_blocks(program: Program, known: Divided) -> tuple[DividedVariant, ...]:
    """The variant of pieces that cut nothing, where it sends no message."""
    allowed = tuple(axis for axis in _data_axes(program) if axis not in known.refusals)
    return (divided_variant(program, allowed),) if allowed else ()


def _aligned(program: Program) -> Divided:
    """How a norm can be divided into pieces that cut no block."""
    batch_axes = sample_axes(program)
    block_counts: dict[str, str] = {}
    allowed, refusals = _allowed(program, block_counts)
    divisible_samples = tuple(axis for axis in batch_axes if axis in allowed)
    candidates = [divided_variant(program, axes) for axes in (divisible_samples, allowed) if axes]
    variants = [variant for variant in candidates if variant.exchanged]
    if len(variants) > 1 and _among(variants[1].program, variants[0].program.divided) == (
        variants[0].program
    ):
        del variants[0]  # the other one sends the same messages where samples alone are divided
    space = Space(program.axes)
    output_dimensions = {
        dim for name, ref in program.outputs for dim in output_dims(program, name, ref)
    }
    # Blocks that an output enumerates are no piece of the axis itself.
    blocks_returned = {axis for axis in block_counts if space.leaves(axis)[0] in output_dimensions}
    aligned = tuple(
        axis
        for axis in allowed
        if axis in blocks_returned or (axis not in block_counts and _is_aligned(program, axis))
    )
    lacking = _outputs_without_axis(program, allowed)
    return Divided(batch_axes, refusals, block_counts, lacking, aligned, tuple(variants))


def _outputs_without_axis(program: Program, axes: Sequence[str]) -> dict[str, str]:
    """By axis, an output that does not have it."""
    space = Space(program.axes)
    return {
        axis: name
        for name, ref in program.outputs
        for axis in axes
        if not {*space.leaves(axis)}
        & {leaf for dim in output_dims(program, name, ref) for leaf in space.leaves(dim)}
    }


def _why_draws_refuse(program: Program, axis: str) -> str:
    """Why an axis cannot be divided because of what the norm draws; empty if it can."""
    for decl in program.drawn_inputs:
        if axis in decl.dims and decl.sort in ("index", "whole"):
            return f"`{decl.name}` has all positions of {axis}, in random order"
        if axis not in decl.dims:
            return (
                f"each process would draw other numbers for `{decl.name}`, which has no axis "
                f"{axis} and would have to be the same for all of it"
            )
    return ""


def _among(program: Program, divided: tuple[str, ...]) -> Program:
    """A program for divided axes with the messages of a process that has all of the other axes.

    A message over several axes goes to the processes of those that are divided in a call.
    """

    def shortened(let: Let) -> Let:
        if not isinstance(let.op, (Exchange, Near)):
            return let
        axes = tuple(axis for axis in let.op.axes if axis in divided)
        return replace(let, op=replace(let.op, axes=axes))

    return replace(program, divided=divided, body=tuple(map(shortened, program.body)))


def _is_aligned(program: Program, axis: str) -> bool:
    """Whether a piece of an axis could cut what a norm needs whole, or breaks one of its checks."""
    space = Space(program.axes)
    has_groups = any(axis in i.dims for i in program.inputs if i.names_groups or i.sort == "edges")
    checked = {space.base(name) for check in program.checks for name in _axes_of_check(check)}
    runs = {space.base(a.piece_of[0]) for a in program.axes if a.piece_of is not None}
    is_split = len(space.leaves(axis)) > 1
    return has_groups or is_split or axis in checked | runs


def _axes_of_check(check: Check) -> tuple[str, ...]:
    match check:
        case Divisible(axis=axis) | Holds(axis=axis):
            return (axis,)
        case Equal(first, second):
            return (first, second)
        case MinimumPoolSize():  # counts the elements of all processes
            return ()


def _outermost_parts(program: Program, axes: Sequence[str]) -> tuple[str, ...]:
    """The divided axes of values: the outermost part of each axis that is split."""
    space = Space(program.axes)
    return tuple(space.leaves(axis)[0] for axis in axes)


def divided_variant(program: Program, axes: tuple[str, ...]) -> DividedVariant:
    """The program of an optimised norm for a piece of these axes. Raises `CannotDivide`."""
    divided_program = exchange(program, _outermost_parts(program, axes))
    exchanged_axes = {axis for op in exchanges(divided_program).values() for axis in op.axes}
    space = Space(program.axes)
    exchanged = tuple(axis for axis in axes if space.leaves(axis)[0] in exchanged_axes)
    return DividedVariant(axes, divided_program, exchanged)


def _block_count(program: Program, axis: str) -> dict[str, str]:
    """The argument that counts the blocks of an axis, by the axis; empty for an axis without any.

    Raises `CannotDivide` if a block could lie on several processes.
    """
    parts = Space(program.axes).leaves(axis)
    counts = _counts_of_blocks(program, axis) if len(parts) == 1 else _count_of_parts(program, axis)
    if not counts:
        return {}
    count = counts.pop()
    if counts or len(parts) > 2 or not isinstance(count, Hyper):
        raise CannotDivide(
            axis, "its blocks would lie on several processes: how many it has is no argument, of "
            "which each process could have a share",
        )  # fmt: skip
    if _is_read(program, count, axis):
        raise CannotDivide(
            axis, f"`{count.name}`, of which each process would have a share, counts more than its "
            "blocks",
        )  # fmt: skip
    return {axis: count.name}


def _count_of_parts(program: Program, axis: str) -> set[Scalar]:
    """The length of the outermost part of a split axis, unless it follows from that of the axis."""
    space = Space(program.axes)
    size = space[space.leaves(axis)[0]].size
    if size is not None and any(leaf == SizeOf(axis) for leaf in leaves(size)):
        return set()
    return {size if size is not None else SizeOf(space.leaves(axis)[0])}


def _counts_of_blocks(program: Program, axis: str) -> set[Scalar]:
    """How many blocks the pools of an axis that is not split have."""
    ops = (let.op for let in every_let(program.body))
    over = [pair for op in ops if isinstance(op, (Pool, Count)) for pair in op.over]
    regular = (m for name, m in over if name == axis and isinstance(m, RegularPartition))
    return {m.number for m in regular if m.counts_pools and m.is_consecutive}


def _is_read(program: Program, count: Hyper, axis: str) -> bool:
    """Whether anything but the blocks of an axis depends on how many there are."""
    space = Space(program.axes)
    parts = {axis, *space.leaves(axis)}
    lengths = tuple(other.size for other in program.axes if space.base(other.name) not in parts)
    ops: list[Op] = []
    for let in every_let(program.body):
        op = let.op
        if isinstance(op, (Pool, Count)):
            op = replace(op, over=tuple((name, m) for name, m in op.over if name not in parts))
        ops.append(op)
    return count.name in hyperparameters_in((lengths, tuple(ops)))
