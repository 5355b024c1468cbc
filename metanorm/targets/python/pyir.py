"""The Python IR: the expressions and statements that generated modules consist of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Union

# ---- expressions


@dataclass(frozen=True, slots=True)
class Name:
    """`x`, or a dotted path such as `torch.rsqrt`."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, boolean or `None`."""

    value: float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`."""

    value: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments, key=value)`."""

    function: Expr
    arguments: tuple[Expr, ...] = ()
    keywords: tuple[tuple[str, Expr], ...] = ()


@dataclass(frozen=True, slots=True)
class Subscript:
    """`value[items]`."""

    value: Expr
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """`start:stop` inside brackets."""

    start: Expr | None = None
    stop: Expr | None = None


@dataclass(frozen=True, slots=True)
class Tuple:
    """`(a, b)`, or `a, b` if it is bare."""

    items: tuple[Expr, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """`[a, b]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Dict:
    """`{key: value}`."""

    items: tuple[tuple[Expr, Expr], ...]


@dataclass(frozen=True, slots=True)
class Starred:
    """`*value`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x`, `not x`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """An arithmetic, comparison or boolean operator with two or more operands, left to right."""

    operator: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class IfElse:
    """`value if condition else other`."""

    condition: Expr
    value: Expr
    other: Expr


@dataclass(frozen=True, slots=True)
class Format:
    """An f-string: text and expressions in turn."""

    parts: tuple[str | Expr, ...]


Expr = Union[
    Name,
    Literal,
    Attribute,
    Call,
    Subscript,
    Slice,
    Tuple,
    List,
    Dict,
    Starred,
    Unary,
    Binary,
    IfElse,
    Format,
]

# ---- statements


@dataclass(frozen=True, slots=True)
class Assign:
    """`a, b = value  # comment`; with a type, `a: type = value`."""

    targets: tuple[Expr, ...]
    value: Expr | None
    comment: str = ""
    annotation: str = ""


@dataclass(frozen=True, slots=True)
class ExprStmt:
    """An expression for its effect."""

    value: Expr
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """`return value`."""

    value: Expr
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Raise:
    """`raise value`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class If:
    """`if condition: ... else: ...`."""

    condition: Expr
    body: tuple[Stmt, ...]
    other: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class For:
    """`for target in values: ...`."""

    target: Expr
    values: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on lines of its own."""

    text: str


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty line."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function. `*` alone has the name `*`."""

    name: str
    annotation: str = ""
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """`def name(parameters) -> returns:`."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    body: tuple[Stmt, ...]
    doc: tuple[str, ...] = ()
    decorators: tuple[str | Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Class:
    """`class name(base):`."""

    name: str
    base: str
    body: tuple[Stmt, ...]
    doc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Import:
    """`import module`, or `from module import names`."""

    module: str
    names: tuple[str, ...] = ()


Stmt = Union[Assign, ExprStmt, Return, Raise, If, For, Comment, Blank, Function, Class, Import]


@dataclass(frozen=True, slots=True)
class Module:
    """A file: header comments, docstring, statements."""

    body: tuple[Stmt, ...]
    doc: tuple[str, ...] = ()
    header: tuple[str, ...] = field(default=())


def names_in(node: object) -> Iterator[str]:
    """The first part of every name that occurs: `torch` of `torch.rsqrt`."""
    for path in paths_in(node):
        yield path.split(".")[0]


def renamed(node: Any, names: Mapping[str, str]) -> Any:
    """The node with some names replaced, by their old names."""
    if isinstance(node, Name):
        return Name(names.get(node.text, node.text))
    if isinstance(node, tuple):
        return tuple(renamed(item, names) for item in node)
    if is_dataclass(node) and not isinstance(node, type):
        return replace(
            node, **{p.name: renamed(getattr(node, p.name), names) for p in fields(node)}
        )
    return node


def paths_in(node: object) -> Iterator[str]:
    """Every name that occurs, with all of its dots."""
    if isinstance(node, Name):
        yield node.text
    elif isinstance(node, tuple):
        for item in node:
            yield from paths_in(item)
    elif is_dataclass(node) and not isinstance(node, type):
        for part in fields(node):
            yield from paths_in(getattr(node, part.name))
