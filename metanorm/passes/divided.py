"""Among which axes a norm can be divided, and its programs for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.batch import sample_axes
from metanorm.ir.division import exchanges
from metanorm.ir.nodes import Number, Program
from metanorm.ir.outputs import output_dims
from metanorm.ir.scalar import Hyper, SizeOf, leaves
from metanorm.ir.space import Space
from metanorm.passes.exchange import CannotDivide, exchange


@dataclass(frozen=True)
class DividedVariant:
    """The program of a process that has a piece of some axes, which are those of tensors."""

    axes: tuple[str, ...]
    program: Program
    exchanged: tuple[str, ...]  # those of the axes over which messages are sent


@dataclass(frozen=True)
class Divided:
    """What division among processes makes of a norm.

    `samples` are the axes of samples. `refused` says of an axis why it cannot be divided, and
    `shares` which argument of the constructor counts its blocks, of which each process has a share.
    `lacking` are outputs without an axis, and `variants` programs, that for samples alone first.
    """

    sample_axes: tuple[str, ...]
    refusals: Mapping[str, str]
    block_counts: Mapping[str, str]
    outputs_without_axis: Mapping[str, str]
    variants: tuple[DividedVariant, ...]


def divided(program: Program) -> Divided | None:
    """The programs of an optimised norm for divided axes; `None` for norms of weights and of
    gradients, whose axes are not those of data."""
    if program.target not in ("activation", "loss"):
        return None
    samples = sample_axes(program)
    refused: dict[str, str] = {}
    shares: dict[str, str] = {}
    allowed: list[str] = []
    begins = next((kept.name for kept in program.state if kept.first), "")
    for axis in dict.fromkeys(dim for decl in program.inputs for dim in decl.dims):
        if begins:
            refused[axis] = f"`{begins}` begins with the first batch of one process"
            continue
        try:
            shares |= _share(program, axis)
            exchange(program, _leaves(program, (axis,)))
        except CannotDivide as reason:
            refused[axis] = reason.reason
        else:
            allowed.append(axis)
    own = tuple(axis for axis in samples if axis in allowed)
    candidates = [divided_variant(program, axes) for axes in (own, tuple(allowed)) if axes]
    variants: list[DividedVariant] = []
    for variant in candidates:
        if variant.exchanged and variant not in variants:
            variants.append(variant)
    space = Space(program.axes)
    lacking = {
        axis: name
        for name, ref in program.outputs
        for axis in allowed
        if not {*space.leaves(axis)}
        & {leaf for dim in output_dims(program, name, ref) for leaf in space.leaves(dim)}
    }
    return Divided(samples, refused, shares, lacking, tuple(variants))


def _leaves(program: Program, axes: Sequence[str]) -> tuple[str, ...]:
    """The axes of values that are divided: of one that is split, the outermost part."""
    space = Space(program.axes)
    return tuple(space.leaves(axis)[0] for axis in axes)


def divided_variant(program: Program, axes: tuple[str, ...]) -> DividedVariant:
    """The program of an optimised norm for pieces of these axes. Raises `CannotDivide`."""
    made = exchange(program, _leaves(program, axes))
    sent = {axis for op in exchanges(made).values() for axis in op.axes}
    space = Space(program.axes)
    exchanged = tuple(axis for axis in axes if space.leaves(axis)[0] in sent)
    return DividedVariant(axes, made, exchanged)


def _share(program: Program, axis: str) -> dict[str, str]:
    """The argument that counts the blocks of an axis, where it is cut into as many.

    Raises `CannotDivide` where its parts would not lie on one process each.
    """
    space = Space(program.axes)
    parts = space.leaves(axis)
    sizes = [space[part].size for part in parts]
    wholes = [{leaf.axis for leaf in leaves(s) if isinstance(leaf, SizeOf)} if s else set()
              for s in sizes]  # fmt: skip
    if len(parts) == 1 or axis in wholes[0]:
        return {}
    blocks = sizes[0]
    numbers = [let.op.value for let in program.body if isinstance(let.op, Number)]
    read = any(leaf == blocks for number in numbers for leaf in leaves(number))
    if not isinstance(blocks, Hyper) or len(parts) > 2 or read:
        raise CannotDivide(axis, f"its parts {', '.join(parts)} would lie on several processes")
    return {axis: blocks.name}
