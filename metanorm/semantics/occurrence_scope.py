"""The names that the text of a norm introduces, and the occurrences that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from metanorm.ir.ops import CALLABLE
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.roles import role_by_name
from metanorm.semantics.symbols import LITERALS, WORDS, Occurrence, Role, Symbol
from metanorm.source import Span
from metanorm.syntax import ast


class OccurrenceScope:
    """The names of one norm outside of its entries, by what they stand for."""

    def __init__(self, norm: ast.Norm) -> None:
        self.norm = norm
        without_entries = [s for s in norm.statements if not isinstance(s, ast.Entry)]
        norm = replace(norm, statements=tuple(without_entries))  # which have names of their own
        self.roles: Mapping[str, Role] = role_by_name(norm)
        self.axes = {n.name for n in nodes_in(norm) if isinstance(n, ast.AxisRef)}
        self.declared = {n.axis.name for n in nodes_in(norm) if isinstance(n, ast.Dim)}
        pieces = {n.axis.name for n in nodes_in(norm) if isinstance(n, ast.Piece)}
        self.pieces = pieces - self.roles.keys()  # runs of axes: in brackets they are no values
        outputs = (n.name for n in nodes_in(norm.statements) if isinstance(n, ast.OutputItem))
        self.outputs = {name.name for name in outputs if name is not None}  # those with names
        self.calls = dict(_called_norms(norm))  # the norm that a `let` is a call of

    def owner(self, role: Role, name: str) -> str:
        """The owner of a symbol that the text introduces."""
        return self.norm.name.name

    def at(self, span: Span, role: Role, name: str, introduces: bool = False) -> Occurrence:
        """An occurrence of a name of this norm, or of a word of the language."""
        owner = "" if role in WORDS or role is Role.NORM else self.owner(role, name)
        return Occurrence(span, Symbol(owner, role, name), introduces, self.norm.name.name)

    def identifier(self, node: ast.Identifier, role: Role, introduces: bool = False) -> Occurrence:
        """An occurrence at an identifier."""
        return self.at(node.span, role, node.name, introduces)

    def value(self, span: Span, name: str) -> Occurrence:
        """An occurrence of a value: of the role of its name, a literal, or of a clause."""
        if name in self.roles:
            return self.at(span, self.roles[name], name)
        return self.at(span, Role.WORD if name in LITERALS else Role.UNKNOWN, name)

    def axis(
        self, node: ast.AxisRef | ast.Spread | ast.Name, introduces: bool = False
    ) -> Occurrence:
        """An occurrence of an axis, without the star of a group of axes."""
        span = Span(node.span.source, node.span.end - len(node.name), node.span.end)
        return self.at(span, Role.AXIS, node.name, introduces)

    def leading_name(self, node: ast.Node, role: Role, name: str) -> Occurrence:
        """The occurrence of the name at the start of a node."""
        return self.at(leading_span(node, name), role, name)

    def output(self, name: ast.Identifier, introduces: bool = True) -> Occurrence:
        """The name of an output. One with the name of an input refers to that, for its dtype."""
        if self.roles.get(name.name) is Role.INPUT:
            return self.identifier(name, Role.INPUT)
        return self.identifier(name, Role.OUTPUT, introduces)

    def in_other_norm(self, norm: str, span: Span, role: Role, name: str) -> Occurrence:
        """An occurrence of a name of another norm."""
        return Occurrence(span, Symbol(norm, role, name), False, self.norm.name.name)


class EntryScope(OccurrenceScope):
    """The names in an entry. Its inputs and values are its own, all else is of the norm."""

    def __init__(self, outer: OccurrenceScope, entry: ast.Entry) -> None:
        inputs = ast.Input(span=entry.span, items=entry.inputs)
        statements = (inputs, *entry.statements)
        super().__init__(replace(outer.norm, hypers=(), statements=statements))
        self.entry = entry
        self.own_names = {n for n, r in self.roles.items() if r in (Role.INPUT, Role.VALUE)}
        own_roles = {name: self.roles[name] for name in self.own_names}
        self.roles = {**self.roles, **outer.roles, **own_roles}
        self.axes |= outer.axes
        self.pieces |= outer.pieces - self.own_names

    def owner(self, role: Role, name: str) -> str:
        """The entry for its outputs, inputs and values, else the norm."""
        norm = self.norm.name.name
        is_own = role is Role.OUTPUT or (name in self.own_names and role is not Role.AXIS)
        return f"{norm}.{self.entry.name.name}" if is_own else norm


def leading_span(node: ast.Node, name: str) -> Span:
    """The span of the name at the start of a node."""
    return Span(node.span.source, node.span.start, node.span.start + len(name))


def _called_norms(norm: ast.Norm) -> Iterator[tuple[str, str]]:
    """Each `let` that is a call of a norm, with the name of that norm."""
    for statement in norm.statements:
        if isinstance(statement, ast.Let) and isinstance(statement.value, ast.Call):
            called = statement.value.function.name
            if called not in CALLABLE:
                yield statement.name.name, called
