"""A small example call of a norm, for pictures: short axes, two graphs, periodic masks.

Everything follows from the program, and nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from metanorm.ir.aggregation import ByIndex, Causal, Window
from metanorm.ir.nodes import Count, Draw, Eye, Pool, Repeat
from metanorm.ir.operands import every_let
from metanorm.ir.program import (
    Argument,
    BufferDecl,
    Divisible,
    Equal,
    InputDecl,
    ParamDecl,
    Program,
)
from metanorm.ir.runs import length_for_runs, shares
from metanorm.ir.scalar import Const, Hyper, Scalar, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.small.call import Call
from metanorm.small.tensor import Tensor, unraveled

NODES = 8  # five in one graph, three in another
LENGTHS = ((6,), (5, 7), (4, 6, 7), (3, 4, 6, 7))  # of the axes of an input, by their number
MAX_LENGTH = 12  # of an axis whose length a spec fixes
MAX_POOL_ELEMENTS = 2048  # of a pool
DEFAULT_LENGTH = 2  # of axes that no input has, such as classes and modes


class CannotDraw(Exception):
    """There is no small example of a norm; the message says why."""


def example(program: Program, lengths: Mapping[str, int] | None = None) -> Call:
    """A call, in training mode, of the norm with short axes: the program that the call holds.

    `lengths` has those of some of the free axes. Raises `CannotDraw` if its pools are large
    whatever the lengths of free axes, or if the norm cannot have these lengths.
    """
    return _Example(_with_short_loops(program), lengths or {}).call()


def _with_short_loops(program: Program) -> Program:
    """The norm with two iterations of each `repeat`."""
    body = tuple(
        replace(let, op=replace(let.op, count=Const(2))) if isinstance(let.op, Repeat) else let
        for let in program.body
    )
    return replace(program, body=body)


class _Example:
    """Builds the example. In the program `small`, even lengths that the spec fixes are short."""

    def __init__(self, program: Program, free_lengths: Mapping[str, int]) -> None:
        self.program = program
        self.free_lengths = free_lengths
        self.space = Space(program.axes)
        self.matrices = [
            (axis, matrix)
            for let in every_let(program.body)
            if isinstance(let.op, (Pool, Count))
            for axis, matrix in let.op.over
        ]
        self.numbers = {a.name: self._number(a) for a in program.arguments if a.type == "int"}
        self.lengths: dict[str, int] = {}
        self._measure()
        fixed = {name: Const(self.lengths[name]) for name in self._long_fixed_axes()}
        self.small = replace(
            program,
            axes=tuple(replace(a, size=fixed.get(a.name, a.size)) for a in program.axes),
        )

    def _measure(self) -> None:
        for axis in self.program.axes:
            if axis.cells_of is None:
                self._length(axis.name)
        for check in self.program.checks:
            if isinstance(check, Equal):
                self.lengths[check.second] = self.lengths[check.first]
        for name, length in self.lengths.items():
            if not 0 < length <= MAX_POOL_ELEMENTS:
                raise CannotDraw(f"axis {name} would have {length} positions")
        for check in self._divisible():
            length, divisor = self.lengths[check.axis], self._divisor(check)
            if length % divisor:
                positions = f"{length} positions, no multiple of {divisor}"
                raise CannotDraw(f"axis {check.axis} would have {positions}")
        for let in every_let(self.program.body):
            if isinstance(let.op, (Pool, Count)):
                axes = {self.space.base(axis) for axis, _ in let.op.over}
                if math.prod(self.lengths[axis] for axis in axes) > MAX_POOL_ELEMENTS:
                    raise CannotDraw(f"a pool of {let.name} holds too many elements")

    def _long_fixed_axes(self) -> set[str]:
        sizes = {a.name: a.size for a in self.program.axes if isinstance(a.size, Const)}
        return {name for name, size in sizes.items() if size.value > MAX_LENGTH}

    def call(self) -> Call:
        hypers = {a.name: self._argument(a) for a in self.program.arguments}
        declarations = {decl.name: decl for decl in self.program.declarations}

        @cache
        def tensor(name: str) -> Tensor:
            decl = declarations[name]
            return self._input(decl) if isinstance(decl, InputDecl) else _initial_value(decl, call)

        call = Call(self.small, self.lengths, hypers, tensor)
        return call

    # ---- numbers and lengths

    def _number(self, argument: Argument) -> int:
        """Three for widths of windows, four for lengths of axes that are split, else two."""
        widths = [m.width for _, m in self.matrices if isinstance(m, (Window, Causal)) and m.width]
        if any(argument.name in _hyperparameter_names(width) for width in widths):
            return 3
        split = [a.size for a in self.program.axes if a.parts and a.size is not None]
        return 4 if any(argument.name in _hyperparameter_names(size) for size in split) else 2

    def _length(self, name: str) -> int:
        if name in self.lengths:
            return self.lengths[name]
        size = self.space[name].size
        size = None if isinstance(size, Const) and size.value > MAX_LENGTH else size
        sizes = {a.name: a.axes[0] for a in self.program.arguments if a.type == "size"}
        if size is None or (isinstance(size, Hyper) and size.name in sizes):
            length = self._free(name)
        else:
            for leaf in leaves(size):
                if isinstance(leaf, SizeOf):
                    self._length(leaf.axis)
            numbers: dict[str, float] = {**shares(self.program), **self.numbers}
            for leaf in leaves(size):
                if isinstance(leaf, Hyper) and leaf.name in sizes:
                    numbers[leaf.name] = self._length(sizes[leaf.name])
            length = int(evaluate(size, numbers, self.lengths))
        self.lengths[name] = length
        return length

    def _free(self, name: str) -> int:
        """The length of a free axis: small, and a multiple of what its checks require."""
        if name in self.free_lengths:
            return self.free_lengths[name]
        if self._holds_graphs(name):
            return NODES
        dims = next((i.dims for i in self.program.inputs if name in i.dims), ())
        length = LENGTHS[len(dims) - 1][dims.index(name)] if 0 < len(dims) <= 4 else DEFAULT_LENGTH
        divisors = [(c.axis, self._divisor(c)) for c in self._divisible()]
        parts = {leaf for leaf in self.space.leaves(name) if leaf != name}
        axis_divisor = math.lcm(1, *(by for axis, by in divisors if axis == name))
        divisor = axis_divisor * math.prod(by for axis, by in divisors if axis in parts)
        length = -(-length // divisor) * divisor
        return length_for_runs(self.program, name, length, self.numbers, room=2)

    def _divisible(self) -> list[Divisible]:
        return [check for check in self.program.checks if isinstance(check, Divisible)]

    def _divisor(self, check: Divisible) -> int:
        """What the length of the axis of a check must be a multiple of."""
        sizes = {a.name: 1.0 for a in self.program.arguments if a.type == "size"}
        return max(1, int(evaluate(check.by, {**sizes, **self.numbers}, self.lengths)))

    def _holds_graphs(self, name: str) -> bool:
        graph_indices = {i.name for i in self.program.inputs if i.names_groups}
        edges = {i.dims[0] for i in self.program.inputs if i.sort == "edges"}
        return name in edges or any(
            axis == name and isinstance(matrix, ByIndex) and matrix.index in graph_indices
            for axis, matrix in self.matrices
        )

    # ---- arguments and inputs

    def _argument(self, argument: Argument) -> object:
        if argument.type == "int":
            return self.numbers[argument.name]
        if argument.type == "size":
            axis = argument.axes[0]
            length = self.lengths[axis]
            return (length,) if self.space[axis].variadic else length
        if argument.type == "matrix":
            return decaying_matrix(self.lengths[argument.axes[0]])
        if argument.type == "choice" and argument.required:
            return argument.choices[0]
        if argument.required:
            return 0.5 if argument.type == "float" else True
        return argument.default

    def _input(self, decl: InputDecl) -> Tensor:
        shape = [self.lengths[dim] for dim in decl.dims]
        if decl.sort == "edges":
            return ring_edges(shape[0])
        if decl.sort == "matrix":
            return decaying_matrix(shape[0])
        if decl.sort == "index":
            groups = self.lengths[decl.table] if decl.table else 0
            count = math.prod(shape)
            if decl.offsets:
                first = sum(graph_of_node(i, count) == 0 for i in range(count))
                return Tensor((3,), [0, first, count])
            return Tensor.of(shape, lambda i: i % groups if groups else graph_of_node(i, count))
        if decl.sort == "whole":
            return Tensor.of(shape, lambda i: 1 + i % 4)
        if decl.sort == "mask":
            return periodic_mask(shape)
        return wave_values(shape)


def _hyperparameter_names(scalar: Scalar) -> set[str]:
    return {leaf.name for leaf in leaves(scalar) if isinstance(leaf, Hyper)}


def _initial_value(decl: ParamDecl | BufferDecl, call: Call) -> Tensor:
    """The initial value of a parameter or a buffer; one if it is computed from the weight.

    Waves of the same spread replace random numbers, so that pictures are reproducible.
    """
    shape = [call.lengths[dim] for dim in decl.dims]
    if isinstance(decl.init, Draw):
        first, second = (call.number(a) for a in decl.init.arguments)
        spread = second if decl.init.distribution == "normal" else (second - first) / 2
        middle = first if decl.init.distribution == "normal" else (first + second) / 2
        return Tensor.of(shape, lambda i: middle + spread * (wave(i) - 1.5))
    if isinstance(decl.init, Eye):
        return _identity(shape, decl.init.blocks)
    value = 1.0 if decl.from_weight else call.number(decl.init)
    return Tensor.of(shape, lambda i: value)


def _identity(shape: list[int], blocks: bool) -> Tensor:
    """An identity matrix in the last two dimensions, or one for each block of rows."""

    def element(place: int) -> float:
        row, column = unraveled(place, shape)[-2:]
        return float((row % shape[-1] if blocks else row) == column)

    return Tensor.of(shape, element)


def graph_of_node(node: int, nodes: int) -> int:
    """The graph of one of `nodes` nodes."""
    return int(node >= nodes * 5 // 8)


def ring_edges(nodes: int) -> Tensor:
    """The edges of two graphs in both directions, shape [2, E]: a ring with a chord, and a ring."""
    first = sum(graph_of_node(node, nodes) == 0 for node in range(nodes))
    pairs = [(i, (i + 1) % first) for i in range(first)]
    pairs += [(first + i, first + (i + 1) % (nodes - first)) for i in range(nodes - first)]
    pairs += [(0, 2)] if first > 3 else []
    sources, targets = zip(*pairs, *((j, i) for i, j in pairs))
    return Tensor((2, len(sources)), (*sources, *targets))


def periodic_mask(shape: list[int]) -> Tensor:
    """A mask that excludes every third element."""
    return Tensor.of(shape, lambda i: i % 3 != 1)


def wave_values(shape: list[int]) -> Tensor:
    """Positive numbers that differ between positions and between samples."""
    return Tensor.of(shape, wave)


def wave(i: int) -> float:
    """A positive number for each place."""
    return 0.5 * math.sin(1.7 * i + 0.4) + 0.8 * math.sin(0.13 * i) + 1.5


def decaying_matrix(n: int) -> Tensor:
    """A matrix [n, n] in which near positions count more than far ones."""
    return Tensor.of((n, n), lambda i: 0.5 ** abs(i // n - i % n))


def pool_numbers(program: Program) -> dict[str, int]:
    """The values of the hyperparameters that shape pools in the example."""
    built_example = _Example(program, {})
    used: set[str] = set()
    for _, matrix in built_example.matrices:
        for part in ("number", "width"):
            scalar = getattr(matrix, part, None)
            used |= _hyperparameter_names(scalar) if scalar is not None else set()
    for axis in program.axes:
        is_part = any(axis.name in other.parts for other in program.axes)
        used |= _hyperparameter_names(axis.size) if is_part and axis.size is not None else set()
    return {name: number for name, number in built_example.numbers.items() if name in used}
