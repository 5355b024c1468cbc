"""The arguments of a kernel: the fields of its call, in the order in which they are packed.

What a target declares and the table from which the runtime fills it are both printed from this
list, so that they cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

from metanorm.ir.aggregation import Causal, Reach, Window
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import AxisMap, Buffer, Cast, Count, Input, Let, Link, Number, Param, Pool
from metanorm.ir.outputs import output_axes
from metanorm.ir.program import Divisible, Program
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, apply, leaves
from metanorm.ir.space import Space
from metanorm.plan.sweeps import Plan

FieldKind = Literal[
    "size", "groups", "number", "momentum", "wide", "narrow", "index", "edges", "saved", "result"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One argument of a kernel call.

    A kernel reads `wide` and `narrow` tensors and writes `result`, a wide one. `saved` is the
    memory of all statistics between the forward and the backward kernel. `edges` is an edge list:
    the number of edges, and the index tensor of their ends.
    """

    kind: FieldKind
    name: str
    # The unsplit dimensions of a tensor that is written, or of a wide tensor whose dimensions are
    # permuted against the first input.
    dims: tuple[str, ...] = ()


def dimensions(program: Program) -> tuple[str, ...]:
    """The dimensions of inputs and parameters whose lengths a call reads off its tensors.

    A copied axis is as long as its original. A part of an axis is as long as a hyperparameter
    says, if the constructor takes one.
    """
    dims = [dim for decl in program.declarations for dim in decl.dims] + [*run_axes(program)]
    parts = {part for axis in program.axes for part in axis.parts}
    sizes = {Hyper(a.name) for a in program.arguments if a.type == "size"}
    declared = {
        a.name for a in program.axes
        if a.cells_of is None and not isinstance(a.size, SizeOf)
        and (a.name not in parts or a.size in sizes)
    }  # fmt: skip
    return tuple(dim for dim in dict.fromkeys(dims) if dim in declared)


def run_axes(program: Program) -> tuple[str, ...]:
    """The runs of positions that a program cuts its axes into. A call brings their lengths, and the
    positions where they start."""
    return tuple(axis.name for axis in program.axes if axis.piece_of is not None)


def start_of(run: str) -> str:
    """The name of the size that has the first position of a run."""
    return f"{run}.start"


def size_argument_dims(program: Program) -> dict[str, str]:
    """For each size argument of the constructor whose length tensors have too, such a dimension."""
    tensor_dims = dimensions(program)
    return {
        argument.name: next(axis for axis in argument.axes if axis in tensor_dims)
        for argument in program.arguments
        if argument.type == "size" and any(axis in tensor_dims for axis in argument.axes)
    }


def scalars(program: Program) -> Iterator[Scalar]:
    """Every scalar of a program, except lengths that a call reads off its tensors."""
    tensor_dims = dimensions(program)
    for axis in program.axes:
        if axis.size is not None and axis.name not in tensor_dims:
            yield axis.size
    for let in program.body:
        if isinstance(let.op, Number):
            yield let.op.value
        if isinstance(let.op, AxisMap) and let.op.argument is not None:
            yield let.op.argument
        for _, matrix in let.op.over if isinstance(let.op, Pool) else ():
            if isinstance(matrix, Reach):
                yield from (end for end in (matrix.back, matrix.ahead) if end is not None)


def hyperparameters(program: Program) -> tuple[str, ...]:
    """The hyperparameters that a kernel reads."""
    dims_of_sizes = size_argument_dims(program)
    argument_names = {
        a.name for a in program.arguments
        if a.type in ("int", "float", "bool", "size") and a.name not in dims_of_sizes
    }  # fmt: skip
    names = [
        leaf.name for scalar in scalars(program) for leaf in leaves(scalar)
        if isinstance(leaf, Hyper) and leaf.name in argument_names
    ]  # fmt: skip
    return tuple(dict.fromkeys(names))


def divisors(program: Program) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Dimensions whose length must be divisible, each with the factors of its divisor: names of
    arguments, and numbers."""
    dims_of_sizes = size_argument_dims(program)
    # By dimension; what divides a part has the factors of the split in it already.
    factors_by_axis: dict[str, Counter[str | int]] = {}
    for check in program.checks:
        if isinstance(check, Divisible):
            axis, by = _divided_dimension(check, program.index.space)
            divisor = factors(by, dims_of_sizes)
            assert divisor is not None
            factors_by_axis[axis] = Counter(divisor) | factors_by_axis.get(axis, Counter())
    for axis, counted in factors_by_axis.items():
        yield axis, tuple(counted.elements())


def _divided_dimension(check: Divisible, space: Space) -> tuple[str, Scalar]:
    """The dimension of which the axis of a check is a part, and by what its length is divided.

    With `axis C = (G = 3, D)`, what demands that 2 divides D demands that 6 divides C.
    """
    axis, by = check.axis, check.by
    while isinstance(size := space[axis].size, Apply) and size.function == "floordiv":
        others: list[Scalar] = []
        whole: Scalar = size
        while isinstance(whole, Apply) and whole.function == "floordiv":
            whole, other = whole.arguments
            others.append(other)
        if not isinstance(whole, SizeOf):
            break
        axis, by = whole.axis, reduce(partial(apply, "mul"), others, by)
    return axis, by


def window_widths(program: Program) -> Iterator[str]:
    """The hyperparameters that set how many positions windows and pasts hold.

    The runtime checks that each is at least one. The front end has checked widths that are numbers.
    """
    for let in program.body:
        for _, matrix in let.op.over if isinstance(let.op, (Count, Pool)) else ():
            if isinstance(matrix, (Causal, Window)) and isinstance(matrix.width, Hyper):
                yield matrix.width.name


def factors(number: Scalar, lengths: Mapping[str, str]) -> tuple[str | int, ...] | None:
    """The factors of a scalar that is a product of arguments and numbers; `None` for any other
    scalar. A size argument of the constructor counts as its dimension."""
    match number:
        case Hyper(name):
            return (lengths.get(name, name),)
        case Const(value):
            return (int(value),)
        case Apply("mul", arguments):
            parts = [factors(argument, lengths) for argument in arguments]
            if None in parts:
                return None
            return tuple(factor for part in parts if part for factor in part)
        case _:
            return None


def segment_indices(program: Program) -> tuple[str, ...]:
    """The index inputs by which scans find where a segment ends."""
    pools = (let.op for let in program.body if isinstance(let.op, Pool))
    names = (m.within for op in pools for _, m in op.over if isinstance(m, Reach))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def followed_dtypes(program: Program) -> tuple[str, ...]:
    """The tensors to whose dtypes the program rounds values. Kernels are compiled per dtype."""
    casts = (let.op.to for let in program.body if isinstance(let.op, Cast))
    return tuple(dict.fromkeys(to.name for to in casts if to.like))


def call_fields(plan: Plan, saved: Iterable[str]) -> tuple[Field, ...]:
    """The fields of a call of this plan.

    `saved` are the statistics that the forward kernel passes to the backward one. They are the
    last outputs of the forward program.
    """
    program, saved_names = plan.program, list(saved)
    field_list = [Field("size", dim) for dim in dimensions(program)]
    field_list += [Field("size", start_of(run)) for run in run_axes(program)]
    if plan.group_index is not None:
        field_list.append(Field("groups", f"{plan.group_index}.count"))
    field_list += [Field("number", name) for name in hyperparameters(program)]
    field_list += [Field("momentum", name) for name in momenta(program).values()]
    space = program.index.space
    input_lets = {let.op.name: let for let in program.body if isinstance(let.op, Input)}
    edge_inputs = {let.op.edges for let in program.body if isinstance(let.op, Link)}
    labels = {plan.group_index, *segment_indices(program)}
    for decl in program.inputs:
        if decl.name in labels:
            field_list.append(Field("index", decl.name))
        elif decl.name in edge_inputs:
            field_list.append(Field("edges", decl.name))
        elif decl.name in input_lets and decl.name not in saved_names:
            kind = _tensor_kind(plan, input_lets[decl.name], decl.sort)
            is_gradient = kind == "wide" and decl.name.startswith("d.")
            leaves = [leaf for dim in decl.dims for leaf in space.leaves(dim)]
            permuted_dims = _dims_if_permuted(plan, leaves, space) if is_gradient else ()
            field_list.append(Field(kind, decl.name, permuted_dims))
    read_state = {let.op.name for let in program.body if isinstance(let.op, (Param, Buffer))}
    read_state |= {update.buffer for update in program.updates}
    state = program.declarations[len(program.inputs) :]
    field_list += [Field("narrow", d.name) for d in state if d.name in read_state]
    copied_axes = {a.name: a.size.axis for a in program.axes if isinstance(a.size, SizeOf)}
    for name, ref in returned_outputs(program, saved_names):
        axes = output_axes(program, name, ref) or plan.type_of(ref).axes
        if set(plan.data_axes) <= set(axes):
            field_list.append(Field("result", f"to.{name}", _dims_if_permuted(plan, axes, space)))
        else:
            dims = space.unsplit(copied_axes.get(a, a) for a in axes)
            field_list.append(Field("narrow", f"to.{name}", dims))
    return (*field_list, Field("saved", "saved")) if saved_names else tuple(field_list)


def returned_outputs(program: Program, saved: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The outputs that a call returns: those of the program except the saved ones."""
    saved_names = set(saved)
    return tuple((name, ref) for name, ref in program.outputs if name not in saved_names)


def _dims_if_permuted(plan: Plan, axes: Sequence[str], space: Space) -> tuple[str, ...]:
    """The dimensions of a wide tensor, if their order differs from that of the first input."""
    return () if tuple(axes) == plan.data_axes else space.unsplit(axes)


def _tensor_kind(plan: Plan, let: Let, sort: str) -> FieldKind:
    if sort == "index":
        return "index"
    return "wide" if set(plan.data_axes) <= set(let.type.axes) else "narrow"


def axis_orders(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The axes of each loaded or returned value, in the order of the dimensions of its tensor."""
    axes_by_ref: dict[str, tuple[str, ...]] = {}
    for ref, order in external_axis_orders(plan):
        axes_by_ref.setdefault(ref, order)
    return axes_by_ref


def external_axis_orders(plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The loaded and returned values, each with its axes in the order of the dimensions."""
    program, index = plan.program, plan.program.index
    for let in program.body:
        if isinstance(let.op, (Input, Param, Buffer)):
            yield let.name, index.axes_of(let.op.name)
    for name, ref in program.outputs:
        order: tuple[str, ...] | None = None
        if name.startswith("d.") and name[2:] in index.declarations:
            order = index.axes_of(name[2:])
        if order is None and not set(plan.data_axes) <= set(index.types[ref].axes):
            order = output_axes(program, name, ref)
        if order is not None:
            yield ref, order
    for update in program.updates:
        order = index.axes_of(update.buffer)
        if set(order) == set(index.types[update.value].axes):
            yield update.value, order
