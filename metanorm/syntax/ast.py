"""The nodes of the untyped syntax tree, in the order of the grammar.

Nodes are frozen, have the span of their text, and compare by structure: two trees are equal if
their texts differ in layout and comments only. No node knows what a name denotes.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal, Union

from metanorm.syntax.ast_bases import Item as Item
from metanorm.syntax.ast_bases import Itemized as Itemized
from metanorm.syntax.ast_bases import Statement as Statement
from metanorm.syntax.ast_examples import Constant as Constant
from metanorm.syntax.ast_examples import Example as Example
from metanorm.syntax.ast_examples import ExampleItem as ExampleItem
from metanorm.syntax.ast_examples import ListOf as ListOf
from metanorm.syntax.ast_expressions import Affine as Affine
from metanorm.syntax.ast_expressions import AffineTerm as AffineTerm
from metanorm.syntax.ast_expressions import At as At
from metanorm.syntax.ast_expressions import AxisList as AxisList
from metanorm.syntax.ast_expressions import AxisRef as AxisRef
from metanorm.syntax.ast_expressions import Call as Call
from metanorm.syntax.ast_expressions import Chain as Chain
from metanorm.syntax.ast_expressions import Compare as Compare
from metanorm.syntax.ast_expressions import Dim as Dim
from metanorm.syntax.ast_expressions import Dtype as Dtype
from metanorm.syntax.ast_expressions import Expr as Expr
from metanorm.syntax.ast_expressions import FieldOf as FieldOf
from metanorm.syntax.ast_expressions import Identifier as Identifier
from metanorm.syntax.ast_expressions import Index as Index
from metanorm.syntax.ast_expressions import Keyword as Keyword
from metanorm.syntax.ast_expressions import Matrix as Matrix
from metanorm.syntax.ast_expressions import Missing as Missing
from metanorm.syntax.ast_expressions import Name as Name
from metanorm.syntax.ast_expressions import Negative as Negative
from metanorm.syntax.ast_expressions import Node as Node
from metanorm.syntax.ast_expressions import Number as Number
from metanorm.syntax.ast_expressions import Pool as Pool
from metanorm.syntax.ast_expressions import PoolAxis as PoolAxis
from metanorm.syntax.ast_expressions import Power as Power
from metanorm.syntax.ast_expressions import Record as Record
from metanorm.syntax.ast_expressions import Rename as Rename
from metanorm.syntax.ast_expressions import Spread as Spread
from metanorm.syntax.ast_expressions import Text as Text
from metanorm.syntax.ast_expressions import Tracked as Tracked
from metanorm.syntax.ast_expressions import Trivia as Trivia


class InputItem(Item):
    """`x[N, C]`, `batch: index[V]`, `label: index[N] of K = num_classes`, `y[M] = x`."""

    name: Identifier
    sort: Identifier | None = None
    dims: tuple[Dim, ...] = ()
    table: Dim | None = None
    default: Expr | None = None


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


class Gradient(Statement):
    """`gradient x = e`, inside `backward`: the gradient of an input."""

    kind: Literal["gradient"] = "gradient"
    name: Identifier
    value: Expr


class Entry(Statement):
    """`entry denormalize(y[N, C], mean[C]) { output y + mean }`: a further method of the norm.

    `end` has the comments behind its last statement.
    """

    kind: Literal["entry"] = "entry"
    name: Identifier
    inputs: tuple[InputItem, ...]
    statements: tuple[Union[AxisSplit, AxisCut, Let, Repeat, Output], ...]
    end: Trivia = field(default=Trivia(), compare=False)


class Backward(Statement):
    """`backward { gradient x = e  update b = e }`: the backward pass that a norm states.

    `end` has the comments behind its last statement.
    """

    kind: Literal["backward"] = "backward"
    statements: tuple[Union[Let, Repeat, Gradient, Update], ...]
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
    Gradient,
    Backward,
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
