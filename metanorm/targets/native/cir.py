"""The C IR: the expressions, statements and definitions of a kernel, before they are text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, constant or macro."""

    text: str

    def __post_init__(self) -> None:
        assert self.text.isidentifier(), f"{self.text!r} is an expression, not a name"


@dataclass(frozen=True, slots=True)
class Member:
    """`object.name`; with `->` as the operator, `object` is a pointer."""

    object: Expr
    name: str
    operator: str = "."


@dataclass(frozen=True, slots=True)
class Number:
    """A number. One with a fraction has the type `real`."""

    value: float


@dataclass(frozen=True, slots=True)
class Double:
    """A number of the type `double`."""

    value: float


@dataclass(frozen=True, slots=True)
class Infix:
    """`left operator right`."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Prefix:
    """`-operand`, `!operand`, `(real)operand`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Apply:
    """`function(arguments)`."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Element:
    """`array[index]`."""

    array: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? yes : no`."""

    condition: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True, slots=True)
class CompoundLiteral:
    """`(type){values}`; without a type, the `{values}` that a declaration begins with."""

    type: str
    values: tuple[Expr, ...]


Expr = Union[
    Name, Member, Number, Double, Infix, Prefix, Apply, Element, Conditional, CompoundLiteral
]


@dataclass(frozen=True, slots=True)
class Declare:
    """`type name = value;`, or the array `type name[length];`."""

    type: str
    name: str
    value: Expr | None = None
    length: Expr | None = None


@dataclass(frozen=True, slots=True)
class Assign:
    """`target operator value;`, with `=` or `+=`."""

    target: Expr
    operator: str
    value: Expr


@dataclass(frozen=True, slots=True)
class ExprStmt:
    """An expression for its effect."""

    value: Expr


@dataclass(frozen=True, slots=True)
class For:
    """`for (int64_t variable = low; variable < high; variable += step)`.

    `simd` adds the OpenMP pragma; `reduced` are the variables that it reduces, with their
    operators. If the number of elements `work` is large enough, threads share this loop, and the
    `nest - 1` loops directly inside it.
    """

    variable: str
    low: Expr
    high: Expr
    body: tuple[Stmt, ...]
    step: Expr = Number(1)
    simd: bool = False
    reduced: tuple[tuple[str, str], ...] = ()
    work: Expr | None = None
    nest: int = 1


@dataclass(frozen=True, slots=True)
class Pieces:
    """The elements of rows between two bounds, in pieces: `length` of them, from `start` on. With
    `rows`, the bounds of some rows, in tiles: such pieces of the rows from `begin` to `end`."""

    low: Expr
    high: Expr
    body: tuple[Stmt, ...]
    rows: tuple[Expr, Expr] | None = None


@dataclass(frozen=True, slots=True)
class If:
    """`if (condition) { body }`."""

    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """`{ body }`: a scope for names."""

    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """`return value;`"""

    value: Expr


@dataclass(frozen=True, slots=True)
class ReturnVoid:
    """`return;`"""


@dataclass(frozen=True, slots=True)
class InLayouts:
    """`#if defined A ... #elif defined B ...`: statements for builds of some layouts."""

    cases: tuple[tuple[tuple[str, ...], tuple[Stmt, ...]], ...]


Stmt = Union[Declare, Assign, ExprStmt, For, Pieces, If, Block, InLayouts, Return, ReturnVoid]


@dataclass(frozen=True, slots=True)
class Function:
    """A function, with `doc` as the comment above it."""

    doc: str
    result: str
    name: str
    parameters: tuple[tuple[str, str], ...]
    body: tuple[Stmt, ...]
    exported: bool = False
    is_inline: bool = False


Fields = tuple[tuple[str, tuple[str, ...]], ...]  # of each type its names, which share a line


@dataclass(frozen=True, slots=True)
class FieldsInLayouts:
    """`#if defined A ... #elif defined B ...`: fields for builds of some layouts."""

    cases: tuple[tuple[tuple[str, ...], Fields], ...]


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure; fields of one type share a line. If it `is_ordered`, callers fill it."""

    doc: str
    name: str
    fields: tuple[tuple[str, tuple[str, ...]] | FieldsInLayouts, ...]
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A constant: `static const type name = { rows };`"""

    type: str
    name: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enum:
    """Names for 0, 1, 2, ..., and further names with explicit numbers."""

    names: tuple[str, ...]
    others: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Define:
    """`#define name value`."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Macro:
    """`#define name(parameters) items`, or without parameters `#define name items`."""

    name: str
    parameters: tuple[str, ...]
    items: tuple[Expr, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Expansion:
    """`name(arguments)`: a macro of the header that defines something."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Include:
    """`#include "file"`."""

    file: str


@dataclass(frozen=True, slots=True)
class Guarded:
    """`#if defined A || defined B`: definitions for builds that define one of these macros."""

    names: tuple[str, ...]
    definitions: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`#if defined A || defined B ... #elif defined ...`: the definitions of each case. A name with
    a space in it stands for two macros, both of which a build defines."""

    cases: tuple[tuple[tuple[str, ...], tuple[Definition, ...]], ...]


Definition = Union[
    Function, Struct, Table, Enum, Define, Macro, Expansion, Include, Guarded, Alternatives
]


def arrow(pointer: Expr, *names: str) -> Expr:
    """`pointer->name->name`."""
    for name in names:
        pointer = Member(pointer, name, "->")
    return pointer


def dot(value: Expr, *names: str) -> Expr:
    """`value.name.name`."""
    for name in names:
        value = Member(value, name)
    return value


def address(value: Expr) -> Expr:
    """`&value`."""
    return Prefix("&", value)


def total(terms: list[Expr]) -> Expr:
    """The sum of the terms. An empty sum is zero."""
    result: Expr = Number(0)
    for term in terms:
        result = term if result == Number(0) else Infix("+", result, term)
    return result


def product(left: Expr, right: Expr) -> Expr:
    """A product, without factors of one."""
    if left == Number(1):
        return right
    return left if right == Number(1) else Infix("*", left, right)
