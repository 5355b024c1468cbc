"""The nodes of the IR.

A program is a list of bindings in static single assignment form. Each has a name, an operation on
earlier names, and a type: a kind and a set of named axes. Values combine by axis name. A missing
axis broadcasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Union

from metanorm.ir.aggregation import Aggregation, Grouping
from metanorm.ir.scalar import Scalar
from metanorm.source import Span

if TYPE_CHECKING:
    from metanorm.ir.index import Index

Ref = str  # the name of an earlier binding
Kind = Literal["real", "int", "bool"]

# ---- axes and types


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis. Values have leaves only: never an axis that has `parts`."""

    name: str
    variadic: bool = False  # stands for zero or more axes
    size: Scalar | None = None  # `None`: free, known at a call
    parts: tuple[str, ...] = ()  # the axes it is split into, outermost first
    # The axis of which it is a run of positions, and the first of them.
    piece_of: tuple[str, Scalar] | None = None
    cells_of: tuple[str, Grouping] | None = None  # the axis and partition whose cells it enumerates


@dataclass(frozen=True, slots=True)
class Type:
    """Kind and axes of a value, axes in the order of the program."""

    kind: Kind
    axes: tuple[str, ...] = ()


# ---- operations


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar of constants, hyperparameters and lengths, known at a call."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Input:
    """An input tensor."""

    name: str


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer: a tensor that a module keeps between calls and does not learn."""

    name: str


@dataclass(frozen=True, slots=True)
class Position:
    """0, 1, 2, ... along an axis."""

    axis: str


@dataclass(frozen=True, slots=True)
class Map:
    """An elementwise function, by its name in the operation table."""

    function: str
    arguments: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """A statistic of `value` over an aggregation.

    `where` is a mask and `weight` has weights of the elements; a pool of total weight zero gives
    zero. `about` is the centre of a `second` moment, one for each pool. `share` is the share of a
    `quantile`, from 0 to 1.
    """

    statistic: str
    value: Ref
    over: Aggregation
    where: Ref | None = None
    weight: Ref | None = None
    about: Ref | None = None
    ddof: int = 0
    share: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """The number of elements in each pool, or their total weight."""

    over: Aggregation
    where: Ref | None = None
    weight: Ref | None = None


@dataclass(frozen=True, slots=True)
class AxisMap:
    """A function of all positions of an axis that keeps the axis: `softmax`, or `sparsestmax` with
    a radius as its argument. With the `adjoint` of its result, the adjoint of the value."""

    function: str
    value: Ref
    axis: str
    argument: Scalar | None = None
    adjoint: Ref | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of `table` along `axis`, chosen by an index or by one position.

    A negative position counts from the end.
    """

    table: Ref
    axis: str
    index: Ref | int


@dataclass(frozen=True, slots=True)
class Piece:
    """The positions of `value` that the axis `piece` is a run of."""

    value: Ref
    piece: str


@dataclass(frozen=True, slots=True)
class Concat:
    """The values on the `pieces` of an axis, one behind the other: a value on the whole `axis`."""

    values: tuple[Ref, ...]
    pieces: tuple[str, ...]
    axis: str


@dataclass(frozen=True, slots=True)
class Rename:
    """The same values, with one axis renamed."""

    value: Ref
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Link:
    """The number of edges from each node of `source` to each node of `target`, an adjacency matrix.

    `loop` adds an edge from each node to itself. Only pools along one of these axes read a link, or
    products that such pools read, so that no program needs the matrix in memory.
    """

    edges: str
    target: str
    source: str
    loop: bool


@dataclass(frozen=True, slots=True)
class Detach:
    """The value without its gradient, as `torch.Tensor.detach` returns it."""

    value: Ref


# The dtypes that a spec can name, by their names in torch.
DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True, slots=True)
class Dtype:
    """The dtype of the input or parameter `name`, or if `like` is false, the dtype of that name.

    A tensor that a call leaves out has the dtype of the first input.
    """

    name: str
    like: bool = True

    @property
    def has_eight_bits(self) -> bool:
        """Whether it is a dtype of eight bits, which is too narrow for gradients."""
        return not self.like and self.name.startswith("float8")


@dataclass(frozen=True, slots=True)
class Cast:
    """The value rounded to a dtype. Results of it are as wide as before."""

    value: Ref
    to: Dtype


@dataclass(frozen=True, slots=True)
class Mode:
    """`train` in training mode, `eval` else; always `train` if the module has no `buffer`."""

    train: Ref
    eval: Ref
    buffer: str | None = None


@dataclass(frozen=True, slots=True)
class Expand:
    """The value, repeated along further axes."""

    value: Ref
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop: `count` runs of `body`, which reads the carried values as `inside`.

    The first run reads `initial`, every further run the `results` of the one before. The value of
    the node is result number `position` of the last run.
    """

    count: Scalar
    inside: tuple[Ref, ...]
    initial: tuple[Ref, ...]
    body: tuple[Let, ...]
    results: tuple[Ref, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Random numbers of a distribution, one for each position of `axes`.

    It is an operation only in programs that compute initial values, where `number` keeps two draws
    apart. As an initial value, it has the axes of its parameter or buffer.
    """

    distribution: str
    arguments: tuple[Scalar, Scalar]
    axes: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Eye:
    """An initial value: an identity matrix in the last two dimensions.

    With `blocks`, there is one for each part of a split dimension, one below the other.
    """

    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """The sum of `value` over the processes among which `axes` are divided: an all-reduce.

    It is its own adjoint: the adjoint on each process is a partial sum of the gradient.
    """

    value: Ref
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """A number near the mean of each pool, the same on all processes and without a gradient.

    A program subtracts it before it sums squares, which would cancel otherwise. It is zero for a
    dtype whose sums have digits to spare.
    """

    value: Ref
    over: Aggregation
    axes: tuple[str, ...]
    where: Ref | None = None
    weight: Ref | None = None


@dataclass(frozen=True, slots=True)
class FromSums:
    """A statistic from the sums of all processes, in the precision of statistics.

    `sums` holds, for `count`, the count; for `sum`, the sum; for `mean`, the count and the sum of
    differences from `near`; for `var`, these two and the sum of squared differences; for `second`,
    the count and the sum of squares. If the count is zero, so is the statistic.
    """

    statistic: Literal["count", "sum", "mean", "var", "second"]
    sums: tuple[Ref, ...]
    near: Ref | None = None


Op = Union[
    Number,
    Input,
    Param,
    Buffer,
    Position,
    Map,
    Pool,
    Count,
    AxisMap,
    Lookup,
    Piece,
    Concat,
    Rename,
    Link,
    Expand,
    Detach,
    Cast,
    Mode,
    Repeat,
    Draw,
    Exchange,
    Near,
    FromSums,
]
Init = Union[Scalar, Draw, Eye]

# Operations whose result at an element depends on the operands at that element alone.
POINTWISE = (Map, Expand, Detach, Cast)

# ---- programs


@dataclass(frozen=True, slots=True)
class Let:
    """A binding, `name : type = op`. Names that are not from the spec begin with `%`."""

    name: Ref
    op: Op
    type: Type
    span: Span


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
    segment of each position.
    """

    name: str
    sort: Literal["tensor", "index", "whole", "mask", "edges", "matrix"]
    dims: tuple[str, ...]
    table: str | None = None  # of an index: the axis of the rows that it chooses
    default: str | float | None = None  # another input, or a constant
    required: bool = True
    offsets: bool = False

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
    """

    buffer: str
    value: Ref
    momentum: Scalar | None = None
    averages: bool = False
    of_samples: bool = False
    when: Literal["train", "eval", "always"] = "train"
    elements: Ref | None = None

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


Check = Union[Divisible, MinimumPoolSize, Equal, Holds]
Declaration = Union[InputDecl, ParamDecl, BufferDecl]


@dataclass(frozen=True)
class Program:
    """One norm, or for the target `initial` the computation of one initial value, its output.

    `entries` are the further methods of the norm, which share what it learns. The name of such a
    program is that of the norm and of the method, with a dot between them.

    `output_dims` has, by output, the order of its dimensions where the spec says one, and
    `output_dtypes` its dtype where that is not the one of the first input. Each process has a piece
    of the axes in `divided`.
    """

    name: str
    target: Literal["activation", "weight", "gradient", "loss", "initial"]
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
    def keeps_shape(self) -> bool:
        """Whether the first output has the shape of the first input."""
        return self.target not in ("loss", "initial")

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
