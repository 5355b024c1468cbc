"""The roles of the names that the text of a norm introduces."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.ir.stated import GRAD
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.symbols import Role
from metanorm.syntax import ast


def role_by_name(norm: ast.Norm) -> Mapping[str, Role]:
    """The role of each name that the text of a norm introduces, except axes and outputs."""
    roles: dict[str, Role] = {hyper.name.name: Role.HYPER for hyper in norm.hypers}
    lengths: list[str] = []
    for node in nodes_in(norm.statements):
        match node:
            case ast.InputItem():
                roles.setdefault(node.name.name, Role.INPUT)
            case ast.ParamItem():
                roles.setdefault(node.name.name, Role.PARAM)
            case ast.BufferItem():
                roles.setdefault(node.name.name, Role.BUFFER)
            case ast.Let() | ast.Stat() | ast.Assignment():
                roles.setdefault(node.name.name, Role.VALUE)
            case ast.Shift() if node.initial is not None:
                named = node.value.value if isinstance(node.value, ast.Index) else node.value
                if isinstance(named, ast.Name):
                    roles.setdefault(named.name, Role.PARAM)
            case ast.Backward():
                roles.setdefault(GRAD, Role.WORD)
            case ast.Dim() if isinstance(node.size, ast.Identifier):
                lengths.append(node.size.name)
            case _:
                pass
    for length in lengths:
        roles.setdefault(length, Role.LENGTH)
    return roles
