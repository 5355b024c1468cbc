"""The settings that a norm is verified under, and example calls for them.

Everything follows from the program. Lengths of axes are small multiples of what their pools need,
and the fixed set of inputs has what breaks norms in practice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metanorm.ir.aggregation import Window
from metanorm.ir.nodes import Count, Input, Pool
from metanorm.ir.program import Argument, Divisible, Equal, InputDecl, Program
from metanorm.ir.runs import length_for_runs, shares
from metanorm.ir.scalar import Const, Hyper, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.verify.layouts import with_layout

F64 = torch.float64
Values = Callable[[torch.Size, torch.Generator], Tensor]


@dataclass(frozen=True)
class Setting:
    """A way to construct and call a module."""

    name: str
    training: bool = True
    switches: Mapping[str, bool] = field(default_factory=dict)
    without: frozenset[str] = frozenset()  # optional inputs that are left out
    space: tuple[int, ...] = (3, 2)  # shape of every group of axes without a fixed length
    single: bool = False  # every axis without a fixed length has length one
    empty: bool = False  # the leading axis, or group of axes, has length zero
    permuted: bool = False  # an index chooses each row of its table once
    dtype: torch.dtype = F64
    values: str = "ordinary"
    memory: str = "contiguous"
    arguments: Mapping[str, object] = field(
        default_factory=dict
    )  # of the constructor: flags, and choices of strings
    number: int = 2  # the value of every integer hyperparameter, so that pools have few elements
    numbers: Mapping[str, int] = field(default_factory=dict)  # other values, by hyperparameter
    lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of axes, by name

    @property
    def ordinary(self) -> bool:
        """Whether the outputs must be finite: the input has several ordinary elements."""
        return self.values == "ordinary" and not (self.single or self.empty) and bool(self.space)


class NoExample(Exception):
    """A norm cannot be called in a setting, such as an index of an empty table."""


@dataclass
class Example:
    """An example call: constructor arguments, inputs, numbers of groups, shapes of axes.

    A module draws random numbers by itself; `drawn` has some for who runs the program alone.
    """

    arguments: dict[str, object]
    inputs: dict[str, Tensor | None]
    groups: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    drawn: dict[str, Tensor | None] = field(default_factory=dict)


def _normal(shape: torch.Size, g: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=g, dtype=F64)


def _with_one_value(x: Tensor, value: float) -> Tensor:
    flat = x.flatten().clone()
    if len(flat):
        flat[len(flat) // 3] = value
    return flat.view(x.shape)


# Values of the first input, by name.
VALUES: dict[str, Values] = {
    "ordinary": _normal,
    "mean 1e4": lambda shape, g: _normal(shape, g) + 1e4,
    "tiny": lambda shape, g: _normal(shape, g) * 1e-20,
    "huge": lambda shape, g: _normal(shape, g) * 1e15,
    "large": lambda shape, g: _normal(shape, g) * 1e8,  # float32 can represent the fourth power
    "constant": lambda shape, g: torch.full(shape, 3.0, dtype=F64),
    "zero": lambda shape, g: torch.zeros(shape, dtype=F64),
    "one NaN": lambda shape, g: _with_one_value(_normal(shape, g), math.nan),
    "one inf": lambda shape, g: _with_one_value(_normal(shape, g), math.inf),
}


def settings(program: Program) -> Iterator[Setting]:
    """All settings of a norm: modes, switches, shapes, values, dtypes, memory layouts."""
    base = Setting("train")
    yield base
    yield replace(base, name="eval", training=False)
    for switch in program.switches:
        for training in (True, False):
            mode = "train" if training else "eval"
            name = f"{mode}, {switch.name}={not switch.default}"
            flipped = {switch.name: not switch.default}
            yield replace(base, name=name, training=training, switches=flipped)
    for flag in (a for a in program.constructor_arguments if a.type in ("bool", "choice")):
        default = flag.default if not flag.required else (flag.choices or (True,))[0]
        for value in (o for o in flag.choices or (True, False) if o != default):
            name = f"{flag.name}={value}"
            yield replace(base, name=name, arguments={flag.name: value})
            yield replace(base, name=f"eval, {name}", arguments={flag.name: value}, training=False)
    optional = [i.name for i in program.given_inputs if not i.required]
    all_at_once = [tuple(optional)] if len(optional) > 1 else []
    for names in [*((name,) for name in optional), *all_at_once]:
        yield replace(base, name=f"without {', '.join(names)}", without=frozenset(names))
    if any(axis.variadic and axis.size is None for axis in program.axes):
        for shape in ((), (5,), (2, 1, 3)):
            yield replace(base, name=f"{len(shape)} axes in a group", space=shape)
    yield replace(base, name="single element", single=True, space=(1,), training=False)
    yield replace(base, name="single element, train", single=True, space=(1,))
    yield replace(base, name="empty", empty=True)
    if any(decl.table is not None for decl in program.inputs):
        yield replace(base, name="permuted", permuted=True)
    # Equal elements are ambiguous where padding repeats positions.
    ambiguous = ("constant", "zero", "expanded") if _ties_are_ambiguous(program) else ()
    for values in (values for values in VALUES if values not in ambiguous):
        if values not in ("ordinary", "large"):
            yield replace(base, name=values, values=values)
        if values not in ("ordinary", "huge"):
            yield replace(base, name=f"{values}, float32", values=values, dtype=torch.float32)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        short = str(dtype).removeprefix("torch.")
        yield replace(base, name=short, dtype=dtype)
        yield replace(base, name=f"eval, {short}", dtype=dtype, training=False)
    for memory in ("channels last", "transposed", "strided", "expanded"):
        if memory not in ambiguous:
            yield replace(base, name=memory, memory=memory)


# The settings of `metanorm verify --quick`: each mode, precision and hazard once.
QUICK_SETTINGS = frozenset(
    (
        *("train", "eval", "empty", "single element", "permuted", "mean 1e4, float32"),
        *("one NaN", "float32", "bfloat16", "channels last"),
    )
)


def quick_settings(program: Program) -> Iterator[Setting]:
    """The quick settings, and those for switches, arguments and optional inputs of the norm."""
    for setting in settings(program):
        if (
            setting.name in QUICK_SETTINGS
            or setting.switches
            or setting.without
            or setting.arguments
        ):
            yield setting


def _ties_are_ambiguous(program: Program) -> bool:
    """Whether equal elements may have unequal shares in the gradient of a maximum or minimum."""
    pools = [let.op for let in program.body if isinstance(let.op, Pool)]
    extremes = [op for op in pools if op.statistic in ("max", "min")]
    matrices = [m for op in extremes for _, m in op.over]
    windows = [m for m in matrices if isinstance(m, Window)]
    has_quantile = any(
        op.statistic == "quantile" for op in pools
    )  # one of several equal elements gets the whole gradient
    return has_quantile or any(window.edge != "truncate" for window in windows)


def make_example(program: Program, setting: Setting, seed: int = 0) -> Example:
    """An example call for a setting. Raises `NoExample`."""
    return _ExampleBuilder(program, setting, seed).built()


class _ExampleBuilder:
    def __init__(self, program: Program, setting: Setting, seed: int) -> None:
        self.program = program
        self.setting = setting
        self.space = Space(program.axes)
        self.generator = torch.Generator().manual_seed(seed)
        integer_names = (a.name for a in program.arguments if a.type == "int")
        self.numbers = {name: setting.numbers.get(name, setting.number) for name in integer_names}
        self.shapes = dict(setting.lengths)
        ops = program.index.ops
        weights = [
            ops[op.weight] for op in ops.values() if isinstance(op, (Pool, Count)) and op.weight
        ]
        self.weights = {op.name for op in weights if isinstance(op, Input)}

    def built(self) -> Example:
        for axis in self.program.axes:
            if axis.cells_of is None:
                self._shape(axis.name)
        self._equalise()
        arguments = {
            a.name: v
            for a in self.program.constructor_arguments
            if (v := self._argument(a)) is not None
        }
        inputs: dict[str, Tensor | None] = {}
        groups: dict[str, int] = {}
        for position, decl in enumerate(self.program.given_inputs):
            inputs[decl.name] = self._input(decl, position == 0)
            if decl.has_group_count:
                groups[decl.name] = self._group_count(decl)
        drawn = {decl.name: self._input(decl, False) for decl in self.program.drawn_inputs}
        return Example(arguments, inputs, groups, self.shapes, drawn)

    # ---- sizes

    def _shape(self, axis: str) -> tuple[int, ...]:
        """The shape of an axis: one length, or several for a group of axes."""
        if axis in self.shapes:
            return self.shapes[axis]
        axis_info = self.space[axis]
        shape: tuple[int, ...]
        if isinstance(axis_info.size, Const):
            shape = (int(axis_info.size.value),)
        elif isinstance(axis_info.size, Hyper) and axis_info.size.name in self.numbers:
            shape = (int(self.numbers[axis_info.size.name]),)
        elif axis_info.size is not None and not isinstance(axis_info.size, Hyper):
            for leaf in leaves(axis_info.size):
                if isinstance(leaf, SizeOf):
                    self._shape(leaf.axis)
            asked = {a.name: a.axes[0] for a in self.program.arguments if a.type == "size"}
            numbers: dict[str, float] = {**shares(self.program), **self.numbers}
            for leaf in leaves(axis_info.size):
                if isinstance(leaf, Hyper) and leaf.name in asked:
                    numbers[leaf.name] = math.prod(self._shape(asked[leaf.name]))
            shape = (int(evaluate(axis_info.size, numbers, self._lengths())),)
        elif axis_info.variadic:
            shape = (2, 3) if axis_info.size is not None else self.setting.space
            if self.setting.empty and axis in self._leading():
                shape = (0, *shape[1:])
        else:
            shape = (self._length(axis),)
        self.shapes[axis] = shape
        return shape

    def _lengths(self) -> dict[str, int]:
        return {axis: math.prod(shape) for axis, shape in self.shapes.items()}

    def _length(self, axis: str) -> int:
        """A small length that the pools can divide. Axes get different lengths if possible."""
        divisor = self._divisor(axis) * self._given_parts(axis)
        fixed = self.space[axis].size is not None
        if self.setting.empty and axis in self._leading():
            return 0
        length = divisor
        if fixed or not self.setting.single:
            rank = [a.name for a in self.program.axes].index(axis)
            length = divisor * (2 if divisor > 1 else (4, 3, 5, 2)[rank % 4])
        return length_for_runs(self.program, axis, length, self.numbers)

    def _divisor(self, axis: str) -> int:
        """The least number that the length of an axis must be a multiple of."""
        divisor = 1
        for check in self.program.checks:
            if isinstance(check, Divisible) and check.axis == axis:
                # Lengths that the constructor asks for divide as parts do, below.
                sizes = {a.name: 1.0 for a in self.program.arguments if a.type == "size"}
                by = evaluate(check.by, {**sizes, **self.numbers}, {})
                divisor = math.lcm(divisor, max(int(by), 1))
        return divisor

    def _given_parts(self, axis: str) -> int:
        """The product of all given lengths of parts of an axis, parts of parts included."""
        product = 1
        for part in (self.space[name] for name in self.space[axis].parts):
            if isinstance(part.size, (Const, Hyper)):
                product *= math.prod(self._shape(part.name))
            else:
                product *= self._divisor(part.name) * self._given_parts(part.name)
        return product

    def _leading(self) -> tuple[str, ...]:
        return self.program.inputs[0].dims[:1]

    def _equalise(self) -> None:
        for check in self.program.checks:
            if isinstance(check, Equal):
                self.shapes[check.second] = self.shapes[check.first]

    # ---- arguments and inputs

    def _argument(self, argument: Argument) -> object:
        if argument.name in self.setting.arguments:
            return self.setting.arguments[argument.name]
        if argument.type == "choice":
            return argument.choices[0] if argument.required else None
        if argument.type == "int":
            return int(self.numbers[argument.name])
        if argument.type == "size":
            shape = self.shapes[argument.axes[0]]
            return shape if self.space[argument.axes[0]].variadic else shape[0]
        if argument.type == "matrix":
            n = math.prod(self.shapes[argument.axes[0]])
            return torch.rand(n, n, generator=self.generator, dtype=F64)
        if argument.required:
            return 0.5 if argument.type == "float" else True
        return None

    def _dims(self, decl: InputDecl) -> torch.Size:
        return torch.Size([n for dim in decl.dims for n in self.shapes[dim]])

    def _group_count(self, decl: InputDecl) -> int:
        """The number of groups: one more than the index uses, so that the last group is empty."""
        return 4 if decl.name not in self.setting.without else 1

    def _edges(self, nodes: int) -> Tensor:
        """Twice as many edges as nodes, some of them double. The last node has no incoming edge."""
        targets = max(1, nodes - 1)
        ends = torch.rand(2, 2 * nodes, generator=self.generator)
        return (ends * torch.tensor([[nodes], [targets]])).long()

    def _offsets(self, length: int) -> Tensor:
        """Offsets of four segments, of which the second one is empty."""
        first, last = torch.randint(0, length + 1, (2,), generator=self.generator).sort().values
        return torch.tensor([0, int(first), int(first), int(last), length])

    def _input(self, decl: InputDecl, first: bool) -> Tensor | None:
        if decl.name in self.setting.without:
            return None
        shape, g = self._dims(decl), self.generator
        if decl.sort == "edges":
            return self._edges(shape[0])
        if decl.offsets:
            return self._offsets(shape.numel())
        if decl.sort == "index":
            high = math.prod(self.shapes[decl.table]) if decl.table else 3
            if self.setting.permuted and shape.numel() == high:
                return torch.randperm(high, generator=g).view(shape)
            if high == 0 and shape.numel():
                raise NoExample(f"{decl.name} has nothing to choose from")
            return torch.randint(0, max(high, 1), shape, generator=g)
        if decl.sort == "whole":  # counts, about as large as axes are long
            return torch.randint(0, 6, shape, generator=g)
        if decl.sort == "mask":
            return torch.rand(shape, generator=g) < 0.7
        if decl.sort == "matrix" or decl.name in self.weights:
            return torch.rand(shape, generator=g, dtype=F64).to(self.setting.dtype)
        values = VALUES[self.setting.values if first else "ordinary"](shape, g)
        values = values.to(self.setting.dtype)
        return with_layout(values, self.setting.memory) if first else values
