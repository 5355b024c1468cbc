"""The nodes of expressions, and what all nodes have in common. `ast` has all nodes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal, Union

from metanorm.source import Span

if sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:
    from typing_extensions import dataclass_transform


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
