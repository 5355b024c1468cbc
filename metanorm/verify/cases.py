"""What a norm is verified with: sizes of axes, hyperparameters, inputs, settings.

Everything follows from the program: sizes are small multiples of what the pools divide,
and the standing set of inputs holds what breaks norms in practice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metanorm.ir.aggregation import Neighbours, Window
from metanorm.ir.nodes import Argument, Count, Divisible, Equal, Input, InputDecl, Pool, Program
from metanorm.ir.scalar import Const, Hyper, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.verify.layouts import with_layout

F64 = torch.float64
Values = Callable[[torch.Size, torch.Generator], Tensor]


@dataclass(frozen=True)
class Setting:
    """One way to construct and call a module."""

    name: str
    training: bool = True
    switches: Mapping[str, bool] = field(default_factory=dict)
    without: frozenset[str] = frozenset()  # optional inputs that are left out
    space: tuple[int, ...] = (3, 2)  # shape of every group of axes of free length
    single: bool = False  # every free axis has length one
    empty: bool = False  # the leading axis, or group of axes, has length zero
    permuted: bool = False  # an index chooses each row of its table once
    dtype: torch.dtype = F64
    values: str = "ordinary"
    memory: str = "contiguous"
    arguments: Mapping[str, object] = field(default_factory=dict)  # flags, and choices of strings
    number: int = 2  # every integer hyperparameter, whatever its default: pools get few elements
    numbers: Mapping[str, int] = field(default_factory=dict)  # of those that are given
    lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of axes that are given

    @property
    def ordinary(self) -> bool:
        """Whether a norm can be expected to give numbers: of ordinary values, and several."""
        return self.values == "ordinary" and not (self.single or self.empty) and bool(self.space)


class NoExample(Exception):
    """A setting in which a norm cannot be called: an index of an empty table, say."""


@dataclass
class Example:
    """The arguments of a constructor and of a call."""

    arguments: dict[str, object]
    inputs: dict[str, Tensor | None]
    groups: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


def _normal(shape: torch.Size, g: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=g, dtype=F64)


def _with_one_value(x: Tensor, value: float) -> Tensor:
    flat = x.flatten().clone()
    if len(flat):
        flat[len(flat) // 3] = value
    return flat.view(x.shape)


# Inputs by name: what a norm meets sooner or later.
VALUES: dict[str, Values] = {
    "ordinary": _normal,
    "mean 1e4": lambda shape, g: _normal(shape, g) + 1e4,
    "tiny": lambda shape, g: _normal(shape, g) * 1e-20,
    "huge": lambda shape, g: _normal(shape, g) * 1e15,
    "large": lambda shape, g: _normal(shape, g) * 1e8,  # whose fourth power float32 can hold
    "constant": lambda shape, g: torch.full(shape, 3.0, dtype=F64),
    "zero": lambda shape, g: torch.zeros(shape, dtype=F64),
    "one NaN": lambda shape, g: _with_one_value(_normal(shape, g), math.nan),
    "one inf": lambda shape, g: _with_one_value(_normal(shape, g), math.inf),
}


def settings(program: Program) -> Iterator[Setting]:
    """Everything a norm is verified under: modes, switches, shapes, inputs, dtypes, layouts."""
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
        usual = flag.default if not flag.required else (flag.choices or (True,))[0]
        for other in (o for o in flag.choices or (True, False) if o != usual):
            name = f"{flag.name}={other}"
            yield replace(base, name=name, arguments={flag.name: other})
            yield replace(base, name=f"eval, {name}", arguments={flag.name: other}, training=False)
    optional = [i.name for i in program.inputs if not i.required]
    together = [tuple(optional)] if len(optional) > 1 else []
    for names in [*((name,) for name in optional), *together]:
        yield replace(base, name=f"without {', '.join(names)}", without=frozenset(names))
    if any(axis.variadic and axis.size is None for axis in program.axes):
        for shape in ((), (5,), (2, 1, 3)):
            yield replace(base, name=f"{len(shape)} axes in a group", space=shape)
    yield replace(base, name="single element", single=True, space=(1,), training=False)
    yield replace(base, name="single element, train", single=True, space=(1,))
    yield replace(base, name="empty", empty=True)
    if any(decl.table is not None for decl in program.inputs):
        yield replace(base, name="permuted", permuted=True)
    # Beyond the border lie zeros, or a position again and again: what is equal there has no share.
    # A double edge has two.
    tied = ("constant", "zero", "expanded") if _ties_are_ambiguous(program) else ()
    for values in (values for values in VALUES if values not in tied):
        if values not in ("ordinary", "large"):
            yield replace(base, name=values, values=values)
        if values not in ("ordinary", "huge"):
            yield replace(base, name=f"{values}, float32", values=values, dtype=torch.float32)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        short = str(dtype).removeprefix("torch.")
        yield replace(base, name=short, dtype=dtype)
        yield replace(base, name=f"eval, {short}", dtype=dtype, training=False)
    for memory in ("channels last", "transposed", "strided", "expanded"):
        if memory not in tied:
            yield replace(base, name=memory, memory=memory)


# What `metanorm verify --quick` keeps of them: each mode, precision and hazard once.
QUICK_SETTINGS = frozenset(
    (
        *("train", "eval", "empty", "single element", "permuted", "mean 1e4, float32"),
        *("one NaN", "float32", "bfloat16", "channels last"),
    )
)


def quick_settings(program: Program) -> Iterator[Setting]:
    """Those for a first look, and all that are of a norm's own: switches, and what is left out."""
    for setting in settings(program):
        if (
            setting.name in QUICK_SETTINGS
            or setting.switches
            or setting.without
            or setting.arguments
        ):
            yield setting


def _ties_are_ambiguous(program: Program) -> bool:
    """Whether what is equal may have unequal shares in the gradient of an extreme."""
    pools = [let.op for let in program.body if isinstance(let.op, Pool)]
    extremes = [op for op in pools if op.statistic in ("max", "min")]
    matrices = [m for op in extremes for _, m in op.over]
    windows = [m for m in matrices if isinstance(m, Window)]
    in_order = any(op.statistic == "quantile" for op in pools)  # one of equal values gets it all
    return (
        in_order
        or any(window.edge != "truncate" for window in windows)
        or any(isinstance(m, Neighbours) for m in matrices)
    )


def make_example(program: Program, setting: Setting, seed: int = 0) -> Example:
    """Arguments and inputs for a setting. Raises `NoExample`."""
    return _ExampleBuilder(program, setting, seed).built()


class _ExampleBuilder:
    def __init__(self, program: Program, setting: Setting, seed: int) -> None:
        self.program = program
        self.setting = setting
        self.space = Space(program.axes)
        self.generator = torch.Generator().manual_seed(seed)
        whole = (a.name for a in program.arguments if a.type == "int")
        self.numbers = {name: setting.numbers.get(name, setting.number) for name in whole}
        self.shapes = dict(setting.lengths)
        ops = program.index.ops
        used = [
            ops[op.weight] for op in ops.values() if isinstance(op, (Pool, Count)) and op.weight
        ]
        self.weights = {op.name for op in used if isinstance(op, Input)}

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
        for position, decl in enumerate(self.program.inputs):
            inputs[decl.name] = self._input(decl, position == 0)
            if decl.sort == "index" and decl.table is None:
                groups[decl.name] = self._group_count(decl)
        return Example(arguments, inputs, groups, self.shapes)

    # ---- sizes

    def _shape(self, axis: str) -> tuple[int, ...]:
        """The length of an axis, or the shape of a group."""
        if axis in self.shapes:
            return self.shapes[axis]
        known = self.space[axis]
        shape: tuple[int, ...]
        if isinstance(known.size, Const):
            shape = (int(known.size.value),)
        elif isinstance(known.size, Hyper) and known.size.name in self.numbers:
            shape = (int(self.numbers[known.size.name]),)
        elif known.size is not None and not isinstance(known.size, Hyper):
            for leaf in leaves(known.size):
                if isinstance(leaf, SizeOf):
                    self._shape(leaf.axis)
            asked = {a.name: a.axes[0] for a in self.program.arguments if a.type == "size"}
            numbers = dict(self.numbers)
            for leaf in leaves(known.size):
                if isinstance(leaf, Hyper) and leaf.name in asked:
                    numbers[leaf.name] = math.prod(self._shape(asked[leaf.name]))
            shape = (int(evaluate(known.size, numbers, self._lengths())),)
        elif known.variadic:
            shape = (2, 3) if known.size is not None else self.setting.space
            if self.setting.empty and axis in self._leading():
                shape = (0, *shape[1:])
        else:
            shape = (self._length(axis),)
        self.shapes[axis] = shape
        return shape

    def _lengths(self) -> dict[str, int]:
        return {axis: math.prod(shape) for axis, shape in self.shapes.items()}

    def _length(self, axis: str) -> int:
        """A small length that the pools divide; different axes differ where they can."""
        divisor = self._divisor(axis) * self._given(axis)
        fixed = self.space[axis].size is not None
        if self.setting.empty and axis in self._leading():
            return 0
        if self.setting.single and not fixed:
            return divisor
        rank = [a.name for a in self.program.axes].index(axis)
        return divisor * (2 if divisor > 1 else (4, 3, 5, 2)[rank % 4])

    def _divisor(self, axis: str) -> int:
        """What has to divide an axis."""
        divisor = 1
        for check in self.program.checks:
            if isinstance(check, Divisible) and check.axis == axis:
                # Lengths that the constructor asks for divide as parts do, below.
                known = {a.name: 1.0 for a in self.program.arguments if a.type == "size"}
                by = evaluate(check.by, {**known, **self.numbers}, {})
                divisor = math.lcm(divisor, max(int(by), 1))
        return divisor

    def _given(self, axis: str) -> int:
        """The product of the parts of an axis whose lengths are given, parts of parts included."""
        given = 1
        for part in (self.space[name] for name in self.space[axis].parts):
            if isinstance(part.size, (Const, Hyper)):
                given *= math.prod(self._shape(part.name))
            else:
                given *= self._divisor(part.name) * self._given(part.name)
        return given

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
        """One group more than there are, so that the last is empty."""
        return 4 if decl.name not in self.setting.without else 1

    def _edges(self, nodes: int) -> Tensor:
        """Twice as many edges as nodes, some of them double; none ends in the last of several."""
        targets = max(1, nodes - 1)
        ends = torch.rand(2, 2 * nodes, generator=self.generator)
        return (ends * torch.tensor([[nodes], [targets]])).long()

    def _input(self, decl: InputDecl, first: bool) -> Tensor | None:
        if decl.name in self.setting.without:
            return None
        shape, g = self._dims(decl), self.generator
        if decl.sort == "edges":
            return self._edges(shape[0])
        if decl.sort == "index":
            high = math.prod(self.shapes[decl.table]) if decl.table else 3
            if self.setting.permuted and shape.numel() == high:
                return torch.randperm(high, generator=g).view(shape)
            if high == 0 and shape.numel():
                raise NoExample(f"{decl.name} has nothing to choose from")
            return torch.randint(0, max(high, 1), shape, generator=g)
        if decl.sort == "whole":  # about as many as axes are long
            return torch.randint(0, 6, shape, generator=g)
        if decl.sort == "mask":
            return torch.rand(shape, generator=g) < 0.7
        if decl.sort == "matrix" or decl.name in self.weights:
            return torch.rand(shape, generator=g, dtype=F64).to(self.setting.dtype)
        values = VALUES[self.setting.values if first else "ordinary"](shape, g)
        values = values.to(self.setting.dtype)
        return with_layout(values, self.setting.memory) if first else values
