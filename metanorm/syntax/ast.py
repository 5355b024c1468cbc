"""The nodes of the untyped syntax tree, in the order of the grammar.

Nodes are frozen, have the span of their text, and compare by structure: two trees are equal if
their texts differ in layout and comments only. No node knows what a name denotes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Union

from metanorm.source import Span

if sys.version_info >= (3, 11):
    from typing import Self, dataclass_transform
else:
    from typing_extensions import Self, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Record:
    """Makes every subclass a frozen dataclass, without pydantic, which only JSON output needs."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)


class Node(Record):
    """The base of every node."""

    span: Span = field(repr=False, compare=False)


class Trivia(Record):
    """The comments of a statement: lines before it ("" is a blank line), and one after it."""

    before: tuple[str, ...] = ()
    after: str = ""


# ---- axes


class Identifier(Node):
    """A name that a statement introduces, or that is no value."""

    name: str


class AxisRef(Node):
    """`C` or `*S`."""

    name: str
    variadic: bool = False


class Dim(Node):
    """`C`, `C = num_features`, `K = 3`, `*D = normalized_shape`."""

    axis: AxisRef
    size: Union[Identifier, Number, None] = None


# ---- expressions


class Number(Node):
    """`1e-5`; `text` is the number as written."""

    kind: Literal["number"] = "number"
    value: float
    text: str = field(compare=False)


class Name(Node):
    """A value, by name."""

    kind: Literal["name"] = "name"
    name: str


class Text(Node):
    """`"graph"`, a string to compare a hyperparameter with."""

    kind: Literal["text"] = "text"
    value: str


class Spread(Node):
    """`*S` in place of an expression: in `size(*S)` and `shift p[*S] = 1`."""

    kind: Literal["spread"] = "spread"
    name: str


class AxisList(Node):
    """`(H, E)`, in `Inner(x, D = (H, E))`."""

    kind: Literal["axes"] = "axes"
    axes: tuple[AxisRef, ...]


class Missing(Node):
    """A piece that the parser inserted after an error, which it has reported."""

    kind: Literal["missing"] = "missing"


class Negative(Node):
    """`-x`."""

    kind: Literal["negative"] = "negative"
    operand: Expr


class Chain(Node):
    """`a + b - c` or `a * b / c`: operands of one level, combined from the left."""

    kind: Literal["chain"] = "chain"
    operators: tuple[str, ...]
    operands: tuple[Expr, ...]


class Power(Node):
    """`x^2`."""

    kind: Literal["power"] = "power"
    base: Expr
    exponent: Expr


class Compare(Node):
    """`a < b`."""

    kind: Literal["compare"] = "compare"
    operator: str
    left: Expr
    right: Expr


class FieldOf(Node):
    """`s.mean`."""

    kind: Literal["field"] = "field"
    value: Expr
    field: Identifier


class Rename(Node):
    """`N -> M`, inside brackets."""

    kind: Literal["rename"] = "rename"
    old: AxisRef
    new: AxisRef


class At(Node):
    """`T = 0`, inside brackets."""

    kind: Literal["at"] = "at"
    axis: AxisRef
    position: Expr


class Index(Node):
    """`d[N -> M]`, `x[T = 0]` or `table[label]`; with axes in `shift p[C, *S] = 1`."""

    kind: Literal["index"] = "index"
    value: Expr
    subscripts: tuple[Union[Rename, At, Expr], ...]


class Keyword(Node):
    """`ddof = 1`, or `train: e` with `labelled`."""

    name: str
    value: Expr
    labelled: bool = False


class Matrix(Node):
    """`blocks(8)`, `U`, `graph with self`, `causal within offsets`: the grouping of one axis, which
    specs call a matrix."""

    name: str
    arguments: tuple[Union[Keyword, Expr], ...] = ()
    parenthesised: bool = False
    extra: Identifier | None = None
    within: Identifier | None = None


class PoolAxis(Node):
    """`C: blocks(8)`; without a matrix, one pool of the whole axis."""

    axis: AxisRef
    matrix: Matrix | None = None


class Tracked(Node):
    """`track m`, `track m from 1 into source`, `track m off`: running statistics.

    `initial` is their initial value, `into` the prefix of their names, and `off` whether they are
    off by default.
    """

    momentum: Expr
    initial: Expr | None = None
    into: Identifier | None = None
    off: bool = False


class Pool(Node):
    """`N, C: blocks(8) where mask weight w track m, ddof = 1`."""

    axes: tuple[PoolAxis, ...]
    where: Expr | None = None
    weight: Expr | None = None
    tracked: Tracked | None = None
    keywords: tuple[Keyword, ...] = ()


class AffineTerm(Node):
    """The axes of a learned weight and bias; `only` names one of them if there is no other."""

    only: Identifier | None = None
    axes: tuple[AxisRef, ...]


class Affine(Node):
    """`C, *D`, `weight[C]`, `C off`."""

    terms: tuple[AffineTerm, ...]
    off: bool = False


class Dtype(Node):
    """`like residual`, the dtype of a tensor, or `as float32`, a dtype by name."""

    name: Identifier
    like: bool


class Call(Node):
    """`mean(x over *S)`, `sqrt(v)`, `affine(e per C)`, `mode(train: a, eval: b)`, `Norm(x)`,
    `cast(e like h)`."""

    kind: Literal["call"] = "call"
    function: Identifier
    arguments: tuple[Expr, ...] = ()
    keywords: tuple[Keyword, ...] = ()
    over: Pool | None = None
    per: Affine | None = None
    dtype: Dtype | None = None


Expr = Union[
    Number,
    Text,
    Name,
    Spread,
    AxisList,
    Missing,
    Negative,
    Chain,
    Power,
    Compare,
    FieldOf,
    Index,
    Call,
]


# ---- statements


class Statement(Node):
    """The base of statements, which carry comments."""

    trivia: Trivia = field(default=Trivia(), compare=False)


class Item(Node):
    """The base of declarations in a statement or a norm, which may carry comments."""

    trivia: Trivia = field(default=Trivia(), compare=False)

    @property
    def note(self) -> str:
        """The comments of an item as one line, without allowances of lints."""
        comments = (*self.trivia.before, self.trivia.after)
        words = [line.lstrip("#").strip() for line in comments]
        return " ".join(w for w in words if w and not w.startswith("norm:")).rstrip(".")


class InputItem(Item):
    """`x[N, C]`, `batch: index[V]`, `label: index[N] of K = num_classes`, `y[M] = x`."""

    name: Identifier
    sort: Identifier | None = None
    dims: tuple[Dim, ...] = ()
    table: Dim | None = None
    default: Expr | None = None


class Itemized(Statement):
    """The base of statements with one or several items."""

    items: tuple[Item, ...]

    def with_items(self, items: Sequence[Item]) -> Self:
        """The statement with other items of its kind."""
        return replace(self, items=tuple(items))


class Input(Itemized):
    """`input x[N, C], ...`."""

    kind: Literal["input"] = "input"
    items: tuple[InputItem, ...]


class AxisSplit(Statement):
    """`axis C = (G = groups, D)`."""

    kind: Literal["axis"] = "axis"
    axis: Identifier
    parts: tuple[Dim, ...]


class Piece(Node):
    """`(I = ratio * size(C))` or `B`: a run of positions of an axis."""

    axis: AxisRef
    size: Expr | None = None


class AxisCut(Statement):
    """`axis C = (I = ratio * size(C)) + B`."""

    kind: Literal["axis"] = "axis"
    axis: Identifier
    pieces: tuple[Piece, ...]


class Reduce(Statement):
    """`reduce N, *S`."""

    kind: Literal["reduce"] = "reduce"
    pool: Pool


class Shift(Statement):
    """`shift none`, `shift mean_scale[C] = 1` (then `initial` is the 1)."""

    kind: Literal["shift"] = "shift"
    value: Expr
    initial: Expr | None = None


class Scale(Statement):
    """`scale l1`."""

    kind: Literal["scale"] = "scale"
    value: Expr


class Stat(Statement):
    """`stat inst over *S`."""

    kind: Literal["stat"] = "stat"
    name: Identifier
    pool: Pool


class Mix(Statement):
    """`mix inst, layer by softmax`."""

    kind: Literal["mix"] = "mix"
    stats: tuple[Identifier, ...]
    by: Identifier
    argument: Expr | None = None


class Track(Statement):
    """`track momentum`, which belongs to the `stat` right before it, else to `reduce`."""

    kind: Literal["track"] = "track"
    tracked: Tracked


class AffineClause(Statement):
    """`affine C`."""

    kind: Literal["affine"] = "affine"
    affine: Affine


class ParamItem(Item):
    """`gate[C] = 1 in [0, 1]`, `g[O] = init l2(v over *I)`, `b[C] = 0 first mean(x over N)`.

    `scale = 1 if learn_scale off` is there if the constructor is asked for it.
    """

    name: Identifier
    dims: tuple[Dim, ...] = ()
    value: Expr
    from_weight: bool = False
    first: Expr | None = None
    low: Expr | None = None
    high: Expr | None = None
    switch: Identifier | None = None
    off: bool = False


class Param(Itemized):
    """`param gate[C] = 1, slope = 0`."""

    kind: Literal["param"] = "param"
    items: tuple[ParamItem, ...]


class Let(Statement):
    """`let alpha = sigmoid(slope)`."""

    kind: Literal["let"] = "let"
    name: Identifier
    dims: tuple[Dim, ...] = ()
    value: Expr


class BufferItem(Item):
    """`seen[C] = 0`, `u[O] = init sum(w over *I)`, `m[C] = 0 first mean(x over N)`."""

    name: Identifier
    dims: tuple[Dim, ...] = ()
    value: Expr
    from_weight: bool = False
    first: Expr | None = None


class Buffer(Itemized):
    """`buffer seen[C] = 0`."""

    kind: Literal["buffer"] = "buffer"
    items: tuple[BufferItem, ...]


class Update(Statement):
    """`update seen = seen + 1`, `update seen = e in eval`."""

    kind: Literal["update"] = "update"
    name: Identifier
    value: Expr
    mode: Identifier | None = None


class Assignment(Node):
    """`d = e`, inside `repeat`."""

    name: Identifier
    value: Expr


class Repeat(Statement):
    """`repeat steps { d = e }`."""

    kind: Literal["repeat"] = "repeat"
    count: Expr
    body: tuple[Assignment, ...]


class OutputItem(Item):
    """`y`, `y = e`, `y = e like residual`."""

    name: Identifier | None = None
    value: Expr
    dtype: Dtype | None = None


class Output(Itemized):
    """`output y, mean`."""

    kind: Literal["output"] = "output"
    items: tuple[OutputItem, ...]


class ListOf(Node):
    """`[1, 2]`, in an example."""

    kind: Literal["list"] = "list"
    items: tuple[Constant, ...]


Constant = Union[Number, Negative, Name, Text, Missing, ListOf]


class ExampleItem(Node):
    """`x = [1, 2]`; in what is expected the first output has no name."""

    name: Identifier | None = None
    value: Constant


class Example(Statement):
    """`example x = [[1, 3]], eps = 0 in eval gives [[-1, 1]] within 1e-6`."""

    kind: Literal["example"] = "example"
    given: tuple[ExampleItem, ...]
    mode: Identifier | None = None
    expected: tuple[ExampleItem, ...]
    within: Number | None = None


class Entry(Statement):
    """`entry denormalize(y[N, C], mean[C]) { output y + mean }`: a further method of the norm.

    `end` has the comments behind its last statement.
    """

    kind: Literal["entry"] = "entry"
    name: Identifier
    inputs: tuple[InputItem, ...]
    statements: tuple[Union[AxisSplit, AxisCut, Let, Repeat, Output], ...]
    end: Trivia = field(default=Trivia(), compare=False)


AnyStatement = Union[
    Input,
    AxisSplit,
    AxisCut,
    Reduce,
    Shift,
    Scale,
    Stat,
    Mix,
    Track,
    AffineClause,
    Param,
    Let,
    Buffer,
    Update,
    Repeat,
    Output,
    Example,
    Entry,
]


def bare(statement: AnyStatement) -> AnyStatement:
    """The statement without comments."""
    if isinstance(statement, Itemized):
        statement = statement.with_items([replace(i, trivia=Trivia()) for i in statement.items])
    return replace(statement, trivia=Trivia())


# ---- files


class Hyper(Item):
    """`num_groups: int`, `eps = 1e-5`, `U: matrix[N, N] = eye`, `mode: "sum" | "mean" = "mean"`."""

    name: Identifier
    type: Identifier | None = None
    choices: tuple[Text, ...] = ()
    axes: tuple[Identifier, ...] = ()
    default: Expr | None = None


class Norm(Node):
    """One normalizer. `doc` is the comment right above it."""

    name: Identifier
    hypers: tuple[Hyper, ...] = ()
    target: Identifier | None = None
    statements: tuple[AnyStatement, ...] = ()
    trivia: Trivia = field(default=Trivia(), compare=False)
    end: Trivia = field(default=Trivia(), compare=False)

    @property
    def doc(self) -> tuple[str, ...]:
        """The lines of the comment block right above the norm, without `#`."""
        lines: list[str] = []
        for line in self.trivia.before:
            if line:
                lines.append(line.lstrip("#").strip())
            else:
                lines.clear()
        return tuple(lines)

    @property
    def without_examples(self) -> Norm:
        """The norm as it is computed."""
        kept = tuple(s for s in self.statements if not isinstance(s, Example))
        return replace(self, statements=kept)

    @property
    def notes(self) -> dict[str, str]:
        """The comments on hyperparameters, inputs, parameters and buffers, by name."""
        items: list[Hyper | InputItem | ParamItem | BufferItem] = list(self.hypers)
        for statement in self.statements:
            if isinstance(statement, (Input, Param, Buffer)):
                items += statement.items
        return {item.name.name: item.note for item in items if item.note}

    @property
    def notes_on_outputs(self) -> tuple[str, ...]:
        """The comments on outputs, in their order."""
        outputs = [s for s in self.statements if isinstance(s, Output)]
        return tuple(item.note for statement in outputs for item in statement.items)


class Use(Node):
    """`use "batch_norm.norm"`."""

    path: str
    trivia: Trivia = field(default=Trivia(), compare=False)


class File(Node):
    """A spec file."""

    uses: tuple[Use, ...] = ()
    norms: tuple[Norm, ...] = ()
    end: Trivia = field(default=Trivia(), compare=False)
