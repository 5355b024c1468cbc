"""Backward passes that specs state, as programs.

Such a program reads what the call was given, the contents of buffers before the call, the arriving
gradients and the buffers as they are now. Its outputs are the gradients of inputs, by their names.
Everything that the forward pass has computed it computes again, as in training.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.aggregation import ByIndex, Dense, Neighbours
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import Buffer, Count, Expand, Input, Let, Mode, Param, Pool, Ref, Type
from metanorm.ir.operands import every_let
from metanorm.ir.program import Backward, InputDecl, Program, Update
from metanorm.ir.reachable import pooling_indices
from metanorm.ir.rename import map_operands

GRAD = "grad"  # the arriving gradient of the output
BEFORE = "_before"  # ends the name of a buffer as it was when the call began
LEAVES = (Input, Param, Buffer)  # operations that read what a program declares


@dataclass(frozen=True)
class StatedPass:
    """A backward pass as a norm states it: `body` stands behind the first `start` bindings.

    `arriving` are the gradients of all outputs, in order. `gradients` are values of `body`, by the
    name of the input.
    """

    start: int
    body: tuple[Let, ...]
    arriving: tuple[InputDecl, ...]
    gradients: tuple[tuple[str, Ref], ...]
    updates: tuple[Update, ...]


def stated_backward(program: Program, stated: StatedPass) -> Program:
    """The program with `stated` as its backward pass."""
    lets, names = _in_training((*program.body, *stated.body))
    gradients = tuple((name, names.get(ref, ref)) for name, ref in stated.gradients)
    updates = tuple(
        replace(update, value=names.get(update.value, update.value), when="always")
        for update in stated.updates
    )
    roots = {ref for _, ref in gradients} | {update.value for update in updates}
    taken = {d.name for d in (*program.declarations, *program.arguments, *stated.arriving)}
    names_of_block = {let.name for let in stated.body}
    body, saved = _with_buffers_before(backward_slice(roots, lets), names_of_block, taken)
    backward = replace(
        program,
        name=f"{program.name}.backward",
        target="backward",
        doc=(),
        body=body,
        outputs=gradients,
        updates=updates,
        checks=(),
        output_dims=(),
        output_dtypes=(),
        entries=(),
    )
    backward = _with_what_it_reads(backward, stated.arriving, saved)
    arriving = tuple(decl.name for decl in stated.arriving)
    return replace(program, backward=Backward(backward, arriving, tuple(saved.items())))


def _in_training(body: Iterable[Let]) -> tuple[list[Let], dict[Ref, Ref]]:
    """The bindings with each mode in training, and what stands for those that are left out."""
    names: dict[Ref, Ref] = {}
    types: dict[Ref, Type] = {}
    lets = []
    for let in body:
        op = map_operands(let.op, names)
        types[let.name] = let.type
        if isinstance(op, Mode):
            if types[op.train] == let.type:
                names[let.name] = op.train
                continue
            op = Expand(op.train, let.type.axes)
        lets.append(replace(let, op=op))
    return lets, names


def _with_buffers_before(
    body: Iterable[Let], names_of_block: Container[Ref], taken: Container[str]
) -> tuple[tuple[Let, ...], dict[str, str]]:
    """The bindings, where those outside of the block read buffers as they were before the call.

    Such a buffer becomes an input. The second result has its name by buffer.
    """
    lets, saved = [], {}
    for let in body:
        if isinstance(let.op, Buffer) and let.name not in names_of_block:
            name = f"{let.op.name}{BEFORE}"
            while name in taken:
                name += "_"
            saved[let.op.name] = name
            let = replace(let, op=Input(name))
        lets.append(let)
    return tuple(lets), saved


def _with_what_it_reads(
    program: Program, arriving: Sequence[InputDecl], saved: Mapping[str, str]
) -> Program:
    """The program with its further inputs, and without declarations of what it does not read."""
    read = {let.op.name for let in every_let(program.body) if isinstance(let.op, LEAVES)}
    read |= set(_pooling_names(program.body))
    read |= {name for name, _ in program.outputs} | {update.buffer for update in program.updates}
    read |= set(_spreading_names(program))
    first, *others = program.inputs
    dims = {buffer.name: buffer.dims for buffer in program.buffers}
    before = (InputDecl(name, "tensor", dims[buffer]) for buffer, name in saved.items())
    kept = (decl for decl in (*others, *arriving) if decl.name in read)
    return replace(
        program,
        inputs=(first, *kept, *before),
        params=tuple(param for param in program.params if param.name in read),
        buffers=tuple(buffer for buffer in program.buffers if buffer.name in read),
    )


def _pooling_names(body: Iterable[Let]) -> Iterator[str]:
    """The inputs and parameters that say how an axis is pooled."""
    for let in every_let(body):
        yield from pooling_indices(let.op)
        for _, grouping in let.op.over if isinstance(let.op, (Pool, Count)) else ():
            if isinstance(grouping, Dense):
                yield grouping.matrix
            elif isinstance(grouping, Neighbours):
                yield grouping.edges


def _spreading_names(program: Program) -> Iterator[str]:
    """The indices whose groups values have cells of, which are spread by them."""
    axes = {axis for let in every_let(program.body) for axis in let.type.axes}
    for axis in program.axes:
        if axis.name in axes and axis.cells_of and isinstance(axis.cells_of[1], ByIndex):
            yield axis.cells_of[1].index
