"""Give array indexes that occur several times in a loop body a variable of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from metanorm.targets.native.cir import Assign, Declare, Element, Expr, Infix, Name, Stmt
from metanorm.targets.native.context import KernelContext


def with_named_indexes(context: KernelContext, statements: Sequence[Stmt]) -> list[Stmt]:
    """The statements of one loop body, with a variable for each index that occurs several times."""
    indexes = Counter(
        index
        for statement in statements
        for index in _indexes(statement)
        if isinstance(index, Infix)
    )
    names: dict[Expr, Name] = {index: Name(context.index_name(index, _variables(index)))
             for index, count in indexes.items() if count > 1}  # fmt: skip
    declared = [Declare("const int64_t", name.text, index) for index, name in names.items()]
    return [*declared, *(_replaced(statement, names) for statement in statements)]


def with_named(name: Name, type_: str, value: Expr, statements: list[Stmt]) -> list[Stmt]:
    """The statements of one block, with a variable for a value that occurs several times."""
    if _count(value, tuple(statements)) < 2:
        return statements
    named: tuple[Stmt, ...] = _replaced(tuple(statements), {value: name})
    return [Declare(type_, name.text, value), *named]


def with_single_uses(statements: Sequence[Stmt], operators: str = "= +=") -> list[Stmt]:
    """The statements of a loop body, in which what is read once, to be stored, has no variable."""
    declared = {s.name: s.value for s in statements if isinstance(s, Declare)}
    stored: dict[str, Expr] = {}
    body: list[Stmt] = []
    for s in statements:
        if isinstance(s, Assign) and isinstance(s.value, Name) and s.operator in operators.split():
            name, value = s.value.text, declared.get(s.value.text)
            if value is not None and _count(s.value, tuple(statements)) == 1:
                stored[name] = value
                s = replace(s, value=value)
        body.append(s)
    return [s for s in body if not (isinstance(s, Declare) and s.name in stored)]


def _count(value: Expr, node: Any) -> int:
    return 1 if node == value else sum(_count(value, child) for child in _children(node))


def _indexes(node: Any) -> Iterator[Expr]:
    """The indexes of all array elements inside a node."""
    if isinstance(node, Element):
        yield node.index
    for child in _children(node):
        yield from _indexes(child)


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        yield from node
    elif is_dataclass(node):
        yield from (getattr(node, field.name) for field in fields(node))


def _variables(index: Expr) -> list[str]:
    """The loop variables inside an index, without lengths such as `v->size_N`."""
    if isinstance(index, Infix):
        return [*_variables(index.left), *_variables(index.right)]
    return [index.text] if isinstance(index, Name) else []


def _replaced(node: Any, names: Mapping[Any, Name]) -> Any:
    """The node with values replaced by their variables."""
    if isinstance(node, tuple):
        return tuple(_replaced(child, names) for child in node)
    if not is_dataclass(node) or isinstance(node, type):
        return node
    if node in names:
        return names[node]
    changed = {f.name: _replaced(getattr(node, f.name), names) for f in fields(node)}
    return replace(node, **changed)
