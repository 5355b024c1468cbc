"""The nodes of the IR: axes, types, operations and bindings. `program` has what holds them.

A program is a list of bindings in static single assignment form. Each has a name, an operation on
earlier names, and a type: a kind and a set of named axes. Values combine by axis name. A missing
axis broadcasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

from metanorm.ir.aggregation import Aggregation, Grouping
from metanorm.ir.scalar import Scalar
from metanorm.source import Span

Ref = str  # the name of an earlier binding
Kind = Literal["real", "int", "bool"]
Joining = Literal["sum", "max", "min"]  # of the parts that processes have of one value

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
class Recurrence:
    """The state m[t] = decay[t] * m[t - 1] + value[t] after each position of an axis, or `before`
    it, from `start` on. With `reverse`, steps go from the last position to the first."""

    value: Ref
    decay: Ref
    start: Ref
    axis: str
    reverse: bool = False
    before: bool = False


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
class Inside:
    """Whether a position of an axis is in the run of positions that the axis `piece` is."""

    piece: str


@dataclass(frozen=True, slots=True)
class Concat:
    """The values on the `pieces` of an axis, one behind the other: a value on the whole `axis`.

    At positions of none of them it is zero, which the language has no words for.
    """

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
    """Random numbers, one for each position of `axes`, or positions of the axis `table`. In a call
    a draw is an input. An initial value has the axes of what it begins; `number` keeps two apart.
    """

    distribution: str
    arguments: tuple[Scalar, ...]
    axes: tuple[str, ...] = ()
    number: int = 0
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Eye:
    """An initial value: an identity matrix in the last two dimensions.

    With `blocks`, there is one for each part of a split dimension, one below the other.
    """

    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """What processes, among which `axes` are divided, make of their `value`: an all-reduce.

    A sum is its own adjoint. For a largest or smallest value, `ties` has how many elements of this
    process equal `value`, none if it has no elements. All that equal the result share the gradient.
    `gradient_of` names what `value` has a gradient of, where a sweep reads more than that.
    """

    value: Ref
    axes: tuple[str, ...]
    operation: Joining = "sum"
    ties: Ref | None = None
    gradient_of: tuple[str, ...] | None = None

    @property
    def is_sum(self) -> bool:
        """Whether it adds values up; largest and smallest ones have messages of their own."""
        return self.operation == "sum"


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
    the count and the sum of squares. If the count is zero, so is the statistic. For `max` and
    `min`, it holds that value.
    """

    statistic: Literal["count", "sum", "mean", "var", "second", "max", "min"]
    sums: tuple[Ref, ...]
    near: Ref | None = None


@dataclass(frozen=True, slots=True)
class ToSum:
    """A partial sum, from local statistics in float64: the inverse of `FromSums`.

    `parts` holds the count and the mean of a pool, and for `squares` its variance, too. `gaps` is
    the sum of differences from `near`, `squares` the sum of squared differences.
    """

    statistic: Literal["gaps", "squares"]
    parts: tuple[Ref, ...]
    near: Ref | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """The result `output` of sweep number `sweep`, which has a function of its own.

    `values` are the narrow values that the sweep reads for it, `axes` those of the result. It is a
    statistic of the piece of this process of the divided axes in `part_of`, and `joined` into that
    of all pieces. Only the function of a norm among processes has sweeps: between them it sends
    messages.
    """

    sweep: int
    output: str
    values: tuple[Ref, ...]
    axes: tuple[str, ...]
    part_of: tuple[str, ...] = ()
    joined: Joining = "sum"


Op = Union[
    Number, Input, Param, Buffer, Position, Map, Pool, Count, AxisMap, Recurrence, Lookup, Piece,
    Inside, Concat, Rename, Link, Expand, Detach, Cast, Mode, Repeat, Draw, Exchange,
    Near, FromSums, ToSum, Swept,
]  # fmt: skip
Init = Union[Scalar, Draw, Eye]

# Operations whose result at an element depends on the operands at that element alone.
POINTWISE = (Map, Expand, Detach, Cast)

# ---- bindings


@dataclass(frozen=True, slots=True)
class Let:
    """A binding, `name : type = op`. Names that are not from the spec begin with `%`."""

    name: Ref
    op: Op
    type: Type
    span: Span
