"""The IR on a page.

A program is a list of bindings in static single assignment: each gives one
value a name, an operation on earlier names, and a type. A type is a kind and a
set of named axes; values combine by axis name, and a missing axis broadcasts.
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
    """A named axis. Values live on leaves: never on an axis that has `parts`."""

    name: str
    variadic: bool = False  # stands for zero or more axes
    size: Scalar | None = None  # `None`: free, known at a call
    parts: tuple[str, ...] = ()  # what it is split into, outermost first
    cells_of: tuple[str, Grouping] | None = None  # the parts of a partition of another axis


@dataclass(frozen=True, slots=True)
class Type:
    """Kind and axes of a value, axes in the order of the program."""

    kind: Kind
    axes: tuple[str, ...] = ()


# ---- operations


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar that is known at the call."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Input:
    """An input tensor."""

    name: str


@dataclass(frozen=True, slots=True)
class Param:
    """A learned tensor."""

    name: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor that is kept between calls and not learned."""

    name: str


@dataclass(frozen=True, slots=True)
class Position:
    """0, 1, 2, ... along an axis."""

    axis: str


@dataclass(frozen=True, slots=True)
class Map:
    """An elementwise function of the operation table."""

    function: str
    arguments: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """A statistic of `value` over an aggregation.

    `about` is the centre of a `second` moment and lives on the result; `where` and
    `weight` make every count a weight; a pool of total weight zero gives zero. `share` says which
    `quantile` it is.
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
    a radius as its argument."""

    function: str
    value: Ref
    axis: str
    argument: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of `table` along `axis`, chosen by an index value or a fixed position, which counts
    from the end where it is negative."""

    table: Ref
    axis: str
    index: Ref | int


@dataclass(frozen=True, slots=True)
class Rename:
    """The same numbers, with an axis called differently."""

    value: Ref
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Link:
    """How many edges of an edge list lead from each node of `source` to each of `target`; with
    `loop`, one more from each to itself.

    Only pools along one of these axes read it, or products that such pools read.
    """

    edges: str
    target: str
    source: str
    loop: bool


@dataclass(frozen=True, slots=True)
class Detach:
    """The value without its gradient, as `torch.Tensor.detach` returns it."""

    value: Ref


# The dtypes that a spec can name.
DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True, slots=True)
class Dtype:
    """The dtype of an input or a parameter, by its name, or with `like` false a dtype of torch.

    That of a tensor that was left out is the one of the first input.
    """

    name: str
    like: bool = True

    @property
    def has_eight_bits(self) -> bool:
        """Whether it is known to have eight bits, which hold no gradients."""
        return not self.like and self.name.startswith("float8")


@dataclass(frozen=True, slots=True)
class Cast:
    """The value rounded to a dtype; what is computed of it is as wide as before."""

    value: Ref
    to: Dtype


@dataclass(frozen=True, slots=True)
class Mode:
    """`train` in training mode, `eval` else; always `train` where `buffer` is not kept."""

    train: Ref
    eval: Ref
    buffer: str | None = None


@dataclass(frozen=True, slots=True)
class Expand:
    """The same numbers, repeated along further axes."""

    value: Ref
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`count` runs of `body`, which reads `inside` and leaves `results` for the next run.

    The first run reads `initial`; the operation gives result number `position` of the last.
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

    As an operation only in what computes an initial value, where `number` keeps two draws apart;
    as an initial value itself it has the axes of what it is for.
    """

    distribution: str
    arguments: tuple[Scalar, Scalar]
    axes: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Eye:
    """As an initial value, an identity matrix in the last two dimensions.

    With `blocks` one for each part of a dimension that is split, one below the other.
    """

    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """The sum of `value` over the processes among which `axes` are divided.

    It is its own adjoint: what arrives on each process is a part of the gradient.
    """

    value: Ref
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """A number near the mean of each pool, the same on all processes and without a gradient.

    It is subtracted before squares are added up. It is zero where their sums have digits to spare.
    """

    value: Ref
    over: Aggregation
    axes: tuple[str, ...]
    where: Ref | None = None
    weight: Ref | None = None


@dataclass(frozen=True, slots=True)
class FromSums:
    """A statistic from what all processes have added up, in the precision of statistics.

    `sums` are for `count` the count; for `sum` the sum; for `mean` the count and the sum of the
    gaps to `near`; for `var` these and the sum of their squares; for `second` the count and the sum
    of squares. Where the count is zero, so is the statistic.
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

# What is computed from values at the same place alone.
POINTWISE = (Map, Expand, Detach, Cast)

# ---- programs


@dataclass(frozen=True, slots=True)
class Let:
    """`name : type = op`. Names from the spec are kept, others begin with `%`."""

    name: Ref
    op: Op
    type: Type
    span: Span


@dataclass(frozen=True, slots=True)
class Test:
    """Whether the argument `of` is the string `text`, or with `equal` false, whether it is not."""

    of: str
    text: str
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Argument:
    """A constructor argument: a hyperparameter, or the size of an axis (`axis` is set).

    A `choice` is one of several strings; what reads it are flags, arguments with a `test`, which
    nobody gives: a module has them as properties.
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
    """An input. `dims` are its tensor dimensions, split axes unsplit.

    An index of which only numbers are read, since nothing is pooled by it, is of the sort `whole`.
    """

    name: str
    sort: Literal["tensor", "index", "whole", "mask", "edges", "matrix"]
    dims: tuple[str, ...]
    table: str | None = None  # of an index: the axis whose rows it chooses
    default: str | float | None = None  # another input, or a constant
    required: bool = True


@dataclass(frozen=True, slots=True)
class ParamDecl:
    """A parameter. Where one of its `switches` is off it is absent and counts as `absent`.

    One that begins with a value of the weight has the bindings that compute it, the value last;
    so has one that takes its value from the `first` batch in training.
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
    """A buffer. `tracked` buffers are absent where running statistics are off.

    One that begins with a value of the weight has the bindings that compute it, the value last;
    so has one that takes its value from the `first` batch in training.
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
    """`buffer` becomes `value` in training mode, or moves towards it by `momentum`.

    `averages` marks a running statistic: a `momentum` of `None` then is the exact
    average over all batches. `of_samples` marks one whose new value is the mean of a statistic
    of each sample. One that is no average may happen in evaluation instead, or in every call.
    `elements`, in a program of divided axes, is how many elements all processes have been given:
    where there are none, the buffer stays as it is.
    """

    buffer: str
    value: Ref
    momentum: Scalar | None = None
    averages: bool = False
    of_samples: bool = False
    when: Literal["train", "eval", "always"] = "train"
    elements: Ref | None = None

    def happens(self, training: bool) -> bool:
        """Whether a call in this mode does it."""
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


Check = Union[Divisible, MinimumPoolSize, Equal]
Declaration = Union[InputDecl, ParamDecl, BufferDecl]


@dataclass(frozen=True)
class Program:
    """One norm, or for the target `initial` what computes what its one output begins with.

    `output_dims` has the order in which the axes of outputs come out, by their names, where the
    spec says it, and `output_dtypes` the dtypes of those that have not that of the first input.
    `divided` are the axes of which each process has a piece.
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

    @cached_property
    def index(self) -> Index:
        """What can be looked up in it."""
        from metanorm.ir.index import Index  # which is made of the nodes on this page

        return Index(self)

    @property
    def constructor_arguments(self) -> tuple[Argument, ...]:
        """The arguments that a user gives to the constructor: all but flags with a `test`."""
        return tuple(a for a in self.arguments if a.test is None)

    @property
    def keeps_shape(self) -> bool:
        """Whether the first output is as large as the first input."""
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
        """Everything that comes from outside as a tensor."""
        return (*self.inputs, *self.state)
