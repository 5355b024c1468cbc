"""Programs of the IR: what a norm declares, computes, checks and updates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Union

from metanorm.ir.aggregation import Aggregation
from metanorm.ir.nodes import Axis, Draw, Dtype, Init, Let, Ref
from metanorm.ir.scalar import Scalar

if TYPE_CHECKING:
    from metanorm.ir.index import Index

InputSort = Literal["tensor", "index", "whole", "mask", "edges", "matrix"]


@dataclass(frozen=True, slots=True)
class Test:
    """Whether the argument `of` is the string `text`."""

    of: str
    text: str


@dataclass(frozen=True, slots=True)
class Argument:
    """A constructor argument: a hyperparameter, or the length of `axes`.

    A `choice` is one of several strings. Programs do not read it, but flags: arguments with a
    `test`, which are no parameters of the constructor but properties of the module.
    """

    name: str
    type: Literal["int", "float", "bool", "matrix", "size", "choice"]
    default: bool | int | float | str | None = None
    required: bool = True
    axes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    test: Test | None = None


@dataclass(frozen=True, slots=True)
class InputDecl:
    """An input. `dims` are its tensor dimensions, before axes are split.

    An index of sort `whole` neither pools nor chooses rows: a program reads its numbers. A call
    gives an index with `offsets` as the offsets of consecutive segments, and a program reads the
    segment of each position. An index that is `of_piece` is no argument of a call: the runtime
    makes it for the piece of an axis that a process has.

    What is `drawn` is no argument of a call: the module draws it in training, and there is none in
    evaluation, where no program reads it.
    """

    name: str
    sort: InputSort
    dims: tuple[str, ...]
    table: str | None = None  # of an index: the axis of the rows that it chooses
    default: str | float | None = None  # another input, or a constant
    required: bool = True
    offsets: bool = False
    of_piece: bool = False
    drawn: Draw | None = None

    @property
    def written_sort(self) -> str:
        """The sort as a spec writes it."""
        return "offsets" if self.offsets else self.sort

    @property
    def names_groups(self) -> bool:
        """Whether its labels are groups of rows, not rows of a table."""
        return self.sort == "index" and self.table is None

    @property
    def has_group_count(self) -> bool:
        """Whether a call may give the number of groups. Offsets have one for each segment."""
        return self.names_groups and not self.offsets


@dataclass(frozen=True, slots=True)
class ParamDecl:
    """A parameter. If one of its `switches` is off, the module lacks it and it counts as `absent`.

    `from_weight` has the bindings that compute its initial value from the weight, the value last;
    `first` has those that compute it from the first batch in training.
    """

    name: str
    dims: tuple[str, ...]
    init: Init
    low: Scalar | None = None
    high: Scalar | None = None
    switches: tuple[str, ...] = ()
    absent: float | None = None
    from_weight: tuple[Let, ...] = ()
    first: tuple[Let, ...] = ()


@dataclass(frozen=True, slots=True)
class BufferDecl:
    """A buffer. A module without running statistics lacks its `tracked` buffers.

    `from_weight` has the bindings that compute its initial value from the weight, the value last;
    `first` has those that compute it from the first batch in training.
    """

    name: str
    dims: tuple[str, ...]
    init: Init
    tracked: bool = False
    from_weight: tuple[Let, ...] = ()
    first: tuple[Let, ...] = ()


@dataclass(frozen=True, slots=True)
class Switch:
    """A constructor argument that turns parameters or running statistics on."""

    name: str
    default: bool
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """A new value of `buffer`: `value`, or a step by `momentum` towards it.

    `averages` marks a running statistic; its `momentum` of `None` is the exact average over all
    batches. `of_samples` marks one whose `value` is the mean of a statistic of each sample. Other
    updates may happen in evaluation, or in every call, as `when` says. `elements`, in a program for
    divided axes, is the number of elements on all processes: if it is zero, the buffer stays.
    `argument` is what the function behind the norm calls the momentum of a running statistic.
    """

    buffer: str
    value: Ref
    momentum: Scalar | None = None
    averages: bool = False
    of_samples: bool = False
    when: Literal["train", "eval", "always"] = "train"
    elements: Ref | None = None
    argument: str = ""

    def happens(self, training: bool) -> bool:
        """Whether a call in this mode makes the update."""
        return self.when in ("always", "train" if training else "eval")


@dataclass(frozen=True, slots=True)
class Divisible:
    """The length of `axis` must be a multiple of `by`."""

    axis: str
    by: Scalar


@dataclass(frozen=True, slots=True)
class MinimumPoolSize:
    """Each pool of `over` must hold more than one value.

    A `tracked` check is made only where the call uses statistics of its batch.
    """

    over: Aggregation
    tracked: bool


@dataclass(frozen=True, slots=True)
class Equal:
    """Two axes must have the same length."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Holds:
    """An axis must have room for the pieces of given length: at least `length` positions."""

    axis: str
    length: Scalar


# The targets of norms that are called with a weight, or with what has the shape of one.
FOR_WEIGHTS = ("weight", "gradient", "step")

Check = Union[Divisible, MinimumPoolSize, Equal, Holds]
Declaration = Union[InputDecl, ParamDecl, BufferDecl]


@dataclass(frozen=True)
class Backward:
    """The backward pass that a norm states. It holds for calls in training.

    The outputs of `program` are the gradients of inputs, by their names; its updates happen in the
    backward pass. It has further inputs: `arriving` has the name of the gradient of each output of
    the norm, in order, and `saved` by buffer that of its contents before the call. An input that
    the program does not read is none of its own.
    """

    program: Program
    arriving: tuple[str, ...]
    saved: tuple[tuple[str, str], ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs of the norm whose gradients it states."""
        return tuple(name for name, _ in self.program.outputs)


@dataclass(frozen=True)
class Program:
    """One norm, or for the target `initial` the computation of one initial value, its output.

    A program for `backward` is what a norm states as its backward pass, one for `sweep` is a pass
    over the data of a norm among processes.

    `entries` are the further methods of the norm, which share what it learns. The name of such a
    program is that of the norm and of the method, with a dot between them.

    `output_dims` has, by output, the order of its dimensions where the spec says one; an axis of
    cells among them is returned as it is, and not spread over the axis that it cuts.
    `output_dtypes` has its dtype where that is not the one of the first input. Each process has a
    piece of the axes in `divided`.
    """

    name: str
    target: Literal[
        "activation", "weight", "gradient", "step", "loss", "initial", "backward", "sweep"
    ]
    doc: tuple[str, ...]
    axes: tuple[Axis, ...]
    arguments: tuple[Argument, ...]
    inputs: tuple[InputDecl, ...]
    params: tuple[ParamDecl, ...]
    buffers: tuple[BufferDecl, ...]
    switches: tuple[Switch, ...]
    body: tuple[Let, ...]
    outputs: tuple[tuple[str, Ref], ...]
    updates: tuple[Update, ...]
    checks: tuple[Check, ...]
    output_dims: tuple[tuple[str, tuple[str, ...]], ...] = ()
    output_dtypes: tuple[tuple[str, Dtype], ...] = ()
    divided: tuple[str, ...] = ()
    entries: tuple[Program, ...] = ()
    backward: Backward | None = None

    @property
    def norm_name(self) -> str:
        """The name of the norm, which is that of its class."""
        return self.name.partition(".")[0]

    @property
    def method(self) -> str:
        """The method of the class that computes the program."""
        return self.name.partition(".")[2] or "forward"

    @property
    def is_entry(self) -> bool:
        """Whether the program is a further method of a norm."""
        return "." in self.name

    @cached_property
    def index(self) -> Index:
        """Tables of the program, such as its bindings by name."""
        from metanorm.ir.index import Index  # it imports the nodes of this module

        return Index(self)

    @property
    def constructor_arguments(self) -> tuple[Argument, ...]:
        """The arguments that a user gives to the constructor: all but flags with a `test`."""
        return tuple(a for a in self.arguments if a.test is None)

    @property
    def given_inputs(self) -> tuple[InputDecl, ...]:
        """The inputs that a call gives: all but random numbers, which the module draws, and the
        labels of the blocks in a piece of an axis, which the runtime makes."""
        return tuple(d for d in self.inputs if d.drawn is None and not d.of_piece)

    @property
    def drawn_inputs(self) -> tuple[InputDecl, ...]:
        """The random numbers that a call in training draws, in order."""
        return tuple(decl for decl in self.inputs if decl.drawn is not None)

    @property
    def for_weights(self) -> bool:
        """Whether its parameters and buffers get their lengths from what it is called with."""
        return self.target in FOR_WEIGHTS

    @property
    def keeps_shape(self) -> bool:
        """Whether the first output has the shape of the first input."""
        is_whole = self.target not in ("loss", "initial", "backward", "sweep")
        return is_whole and all(name != self.outputs[0][0] for name, _ in self.output_dims)

    @property
    def state(self) -> tuple[ParamDecl | BufferDecl, ...]:
        """The parameters and buffers of a module, in the order in which they are initialized."""
        return (*self.params, *self.buffers)

    @property
    def initialized(self) -> ParamDecl | BufferDecl:
        """For the target `initial`, the declaration whose initial value is the output."""
        return next(decl for decl in self.state if decl.name == self.outputs[0][0])

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """The inputs, parameters and buffers."""
        return (*self.inputs, *self.state)
