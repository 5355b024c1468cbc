"""Blocks that a piece of an axis may cut: each position gets the label of its block.

A process that has a part of a block cannot pool it. With labels, the pools of an axis are those of
an index whose table has all blocks of the whole axis, and processes exchange a sum for each.
Where the axis is divided says its layout, so labels and numbers of blocks come from the runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from metanorm.ir.aggregation import Aggregation, ByIndex
from metanorm.ir.nodes import Axis, Count, Input, Let, Pool, Type
from metanorm.ir.operands import every_let
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Argument, Divisible, InputDecl, Program
from metanorm.ir.scalar import Const, Hyper
from metanorm.ir.space import Space, cell_name


@dataclass(frozen=True)
class BlockLabels:
    """The labels of the positions of `axis` by one regular partition.

    `input` is the name of the input that has them, `count` that of the argument that says how many
    blocks there are in all.
    """

    axis: str
    grouping: RegularPartition
    input: str
    count: str

    @property
    def kind(self) -> str:
        """The name of the partition in the language."""
        return self.grouping.name

    @property
    def number(self) -> str | int:
        """The argument of the partition: a constructor argument, by name, or a number."""
        scalar = self.grouping.number
        assert isinstance(scalar, (Hyper, Const)), scalar
        return scalar.name if isinstance(scalar, Hyper) else int(scalar.value)


@dataclass(frozen=True)
class CutBlocks:
    """A program in which blocks are labelled, before it is optimised, and the labels."""

    program: Program
    labels: tuple[BlockLabels, ...]

    @property
    def axes(self) -> frozenset[str]:
        """The axes whose blocks a piece may cut."""
        return frozenset(label.axis for label in self.labels)


def with_block_labels(program: Program) -> CutBlocks | None:
    """The program with a label for each position of an axis of fixed length that has blocks.

    `None` where no axis has any. Blocks of an axis whose length only a call tells stay as they are:
    where a piece begins would take a message before every call. So do blocks that an output
    enumerates, and those of an axis that the spec itself splits.
    """
    labels = tuple(_labels(program))
    if not labels:
        return None
    changes: dict[object, object] = {}
    for label in labels:
        by_label = ByIndex(label.input)
        changes[(label.axis, label.grouping)] = (label.axis, by_label)
        changes[cell_name(label.axis, label.grouping)] = cell_name(label.axis, by_label)
    cut_axes = {label.axis for label in labels}
    kept = [c for c in program.checks if not (isinstance(c, Divisible) and c.axis in cut_axes)]
    changed = _changed(replace(program, checks=tuple(kept), entries=(), backward=None), changes)
    assert isinstance(changed, Program)
    tables = {label.input: f"{label.axis}.{label.input}" for label in labels}
    span = program.body[0].span
    return CutBlocks(
        replace(
            changed,
            axes=(*changed.axes, *(Axis(tables[x.input], size=Hyper(x.count)) for x in labels)),
            arguments=(*changed.arguments, *(Argument(x.count, "int") for x in labels)),
            inputs=(
                *changed.inputs,
                *(
                    InputDecl(x.input, "index", (x.axis,), tables[x.input], of_piece=True)
                    for x in labels
                ),
            ),
            body=(
                *(Let(x.input, Input(x.input), Type("int", (x.axis,)), span) for x in labels),
                *changed.body,
            ),
        ),
        labels,
    )


def _labels(program: Program) -> Iterator[BlockLabels]:
    used = {decl.name for decl in program.declarations}
    used |= {a.name for a in program.arguments} | {let.name for let in every_let(program.body)}
    lengths = {a.axes for a in program.arguments if a.type == "size"}
    returned = {dim for _, dims in program.output_dims for dim in dims}
    space = Space(program.axes)
    for axis, grouping in dict.fromkeys(_partitions(program)):
        is_known = (axis,) in lengths and isinstance(grouping.number, (Hyper, Const))
        is_single = not (space[axis].parts or space[axis].variadic or space[axis].cells_of)
        if is_known and is_single and cell_name(axis, grouping) not in returned:
            name = f"{axis.lower()}_block"
            while {name, f"{name}s"} & used:
                name += "_"
            used |= {name, f"{name}s"}
            yield BlockLabels(axis, grouping, name, f"{name}s")


def _partitions(program: Program) -> Iterator[tuple[str, RegularPartition]]:
    for let in every_let(program.body):
        over: Aggregation = let.op.over if isinstance(let.op, (Pool, Count)) else ()
        yield from ((axis, g) for axis, g in over if isinstance(g, RegularPartition))


def _changed(node: object, changes: Mapping[object, object]) -> object:
    """A node of the IR with parts replaced, in whichever field they are."""
    if isinstance(node, (str, tuple)) and node in changes:
        return changes[node]
    if isinstance(node, tuple):
        return tuple(_changed(part, changes) for part in node)
    if is_dataclass(node) and not isinstance(node, type):
        new = {f.name: _changed(getattr(node, f.name), changes) for f in fields(node) if f.init}
        return replace(node, **new)
    return node
