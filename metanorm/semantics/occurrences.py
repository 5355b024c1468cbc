"""Occurrences of symbols in a spec: where each name is introduced and used, for editors.

It reads the syntax tree as written, so it also serves specs with errors. A rename of all
occurrences of a symbol must not change the meaning of a spec; a test renames every name of the
corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

from metanorm.ir.ops import CALLABLE, MATRICES, STRUCTURED
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.reserved import AFFINE_SWITCHES
from metanorm.semantics.roles import role_by_name
from metanorm.semantics.symbols import (
    LITERALS,
    OF_AXES,
    WORDS,
    Occurrence,
    Role,
    Symbol,
    introduced,
)
from metanorm.source import Source, Span
from metanorm.syntax import ast
from metanorm.syntax.grammar import CLAUSE_WORDS
from metanorm.syntax.parse import Parsed
from metanorm.syntax.tree_from_text import CALL_SWITCHES


def occurrences(source: Source, parsed: Parsed) -> tuple[Occurrence, ...]:
    """Every name and word of a text except keywords, in the order of the text."""
    all_occurrences = [o for norm in parsed.file.norms for o in _Norm(source, norm).all()]
    introduced_symbols = {
        (o.symbol.norm, o.symbol.name): o.symbol for o in all_occurrences if o.introduces
    }
    resolved = [replace(o, symbol=introduced(o, introduced_symbols)) for o in all_occurrences]
    return tuple(sorted(set(resolved), key=lambda o: (o.span, not o.introduces)))


class _Norm:
    """The occurrences in one norm."""

    def __init__(self, source: Source, norm: ast.Norm) -> None:
        self.source = source
        self.norm = norm
        without_entries = [s for s in norm.statements if not isinstance(s, ast.Entry)]
        norm = replace(norm, statements=tuple(without_entries))  # which have names of their own
        self.roles = role_by_name(norm)
        self.axes = {n.name for n in nodes_in(norm) if isinstance(n, ast.AxisRef)}
        pieces = {n.axis.name for n in nodes_in(norm) if isinstance(n, ast.Piece)}
        self.pieces = pieces - self.roles.keys()  # runs of axes: in brackets they are no values
        outputs = (n.name for n in nodes_in(norm.statements) if isinstance(n, ast.OutputItem))
        self.outputs = {name.name for name in outputs if name is not None}  # those with names
        self.calls = dict(_called_norms(norm))  # the norm that a `let` is a call of

    def all(self) -> Iterator[Occurrence]:
        """Each occurrence. Of several that could introduce a symbol, the first does."""
        seen_symbols: set[Symbol] = set()
        for occurrence in sorted(self._norm(), key=lambda o: o.span):
            if (
                self.source.text[occurrence.span.start : occurrence.span.end]
                != occurrence.symbol.name
            ):
                continue  # the parser inserted it, after an error
            yield replace(
                occurrence,
                introduces=occurrence.introduces and occurrence.symbol not in seen_symbols,
            )
            if occurrence.introduces:
                seen_symbols.add(occurrence.symbol)

    # ---- occurrences

    def _at(self, span: Span, role: Role, name: str, introduces: bool = False) -> Occurrence:
        owner = "" if role in WORDS or role is Role.NORM else self._owner(role, name)
        return Occurrence(span, Symbol(owner, role, name), introduces, self.norm.name.name)

    def _owner(self, role: Role, name: str) -> str:
        """The owner of a symbol of this text."""
        return self.norm.name.name

    def _identifier(self, node: ast.Identifier, role: Role, introduces: bool = False) -> Occurrence:
        return self._at(node.span, role, node.name, introduces)

    def _value(self, span: Span, name: str) -> Occurrence:
        if name in self.roles:
            return self._at(span, self.roles[name], name)
        return self._at(span, Role.WORD if name in LITERALS else Role.UNKNOWN, name)

    def _axis(
        self, node: ast.AxisRef | ast.Spread | ast.Name, introduces: bool = False
    ) -> Occurrence:
        span = Span(node.span.source, node.span.end - len(node.name), node.span.end)
        return self._at(span, Role.AXIS, node.name, introduces)

    def _leading_name(self, node: ast.Node, role: Role, name: str) -> Occurrence:
        """The occurrence of the name at the start of a node."""
        return self._at(_leading_span(node, name), role, name)

    def _norm(self) -> Iterator[Occurrence]:
        norm = self.norm
        yield self._identifier(norm.name, Role.NORM, introduces=True)
        if norm.target is not None:
            yield self._identifier(norm.target, Role.WORD)
        for hyper in norm.hypers:
            yield self._identifier(hyper.name, Role.HYPER, introduces=True)
            if hyper.type is not None:
                yield self._identifier(hyper.type, Role.SORT)
            for axis in hyper.axes:
                yield self._identifier(axis, Role.AXIS)
            if isinstance(hyper.default, ast.Name) and hyper.default.name in STRUCTURED:
                yield self._leading_name(hyper.default, Role.WORD, hyper.default.name)
            else:
                yield from self._names_in(hyper.default)
        for statement in norm.statements:
            yield from self._names_in(statement)

    def _names_in_all(self, nodes: Iterable[object]) -> Iterator[Occurrence]:
        for node in nodes:
            yield from self._names_in(node)

    def _names_in(self, node: object) -> Iterator[Occurrence]:
        """The occurrences in a part of a statement."""
        match node:
            case ast.InputItem():
                yield self._identifier(node.name, Role.INPUT, introduces=True)
                if node.sort is not None:
                    yield self._identifier(node.sort, Role.SORT)
                for dim in (*node.dims, *((node.table,) if node.table else ())):
                    yield from self._dim(dim, introduces=True)
                yield from self._names_in(node.default)
            case ast.Dim():
                yield from self._dim(node)
            case ast.AxisSplit():
                yield self._identifier(node.axis, Role.AXIS)
                for part in node.parts:
                    yield from self._dim(part, introduces=True)
            case ast.AxisCut():
                yield self._identifier(node.axis, Role.AXIS)
                for piece in node.pieces:
                    yield self._axis(piece.axis, introduces=True)
                    yield from self._names_in(piece.size)
            case ast.Shift() if node.initial is not None:
                yield from self._learned_shift(node)
            case ast.Shift() | ast.Scale() if _is_clause_word(node):
                assert isinstance(node.value, ast.Name)
                yield self._leading_name(node.value, Role.WORD, node.value.name)
            case ast.Stat():
                yield self._identifier(node.name, Role.VALUE, introduces=True)
                yield from self._names_in(node.pool)
            case ast.Mix():
                for stat in node.stats:
                    yield self._value(stat.span, stat.name)
                yield self._identifier(node.by, Role.FUNCTION)
                yield from self._names_in(node.argument)
            case ast.ParamItem():
                yield self._identifier(node.name, Role.PARAM, introduces=True)
                yield from self._names_in_all((*node.dims, node.low, node.high))
                yield from self._initial(node.value)
                yield from self._names_in(node.first)
                if node.switch is not None:
                    is_word = node.switch.name in AFFINE_SWITCHES
                    role = Role.WORD if is_word else Role.HYPER
                    yield self._identifier(node.switch, role, introduces=not is_word)
            case ast.BufferItem():
                yield self._identifier(node.name, Role.BUFFER, introduces=True)
                yield from self._names_in(node.dims)
                yield from self._initial(node.value)
                yield from self._names_in(node.first)
            case ast.Tracked():
                yield from self._names_in(node.momentum)
                yield from self._initial(node.initial)
                if node.into is not None:
                    yield self._identifier(node.into, Role.WORD)
            case ast.Let():
                yield self._identifier(node.name, Role.VALUE, introduces=True)
                yield from self._names_in_all((*node.dims, node.value))
            case ast.Entry():
                yield self._identifier(node.name, Role.OUTPUT, introduces=True)
                yield from _Entry(self, node).inside()
            case ast.Update():
                yield self._value(node.name.span, node.name.name)
                yield from self._names_in(node.value)
                if node.mode is not None:
                    yield self._identifier(node.mode, Role.WORD)
            case ast.Assignment():  # of a `let`, or of a value local to a `repeat`
                is_value = self.roles[node.name.name] is Role.VALUE
                role = self.roles[node.name.name]
                yield self._identifier(node.name, role, introduces=is_value)
                yield from self._names_in(node.value)
            case ast.Example():
                yield from self._example(node)
            case ast.OutputItem():
                if node.name is not None:
                    yield self._output(node.name)
                yield from self._names_in_all((node.value, node.dtype))
            case ast.Dtype():
                like = node.name
                yield (
                    self._value(like.span, like.name)
                    if node.like
                    else self._identifier(like, Role.WORD)
                )
            case ast.AxisRef() | ast.Spread():
                yield self._axis(node)
            case ast.Rename():
                yield self._axis(node.old)
                yield self._axis(node.new, introduces=True)
            case ast.Index():
                yield from self._names_in(node.value)
                for subscript in node.subscripts:
                    if isinstance(subscript, ast.Name) and subscript.name in self.pieces:
                        yield self._axis(subscript)
                    else:
                        yield from self._names_in(subscript)
            case ast.Name():
                yield self._value(node.span, node.name)
            case ast.FieldOf():
                yield from self._names_in(node.value)
                called = self.calls.get(getattr(node.value, "name", ""))
                if called is not None:  # an output of the norm that is called
                    yield self._in_other_norm(called, node.field.span, Role.OUTPUT, node.field.name)
                else:
                    yield self._identifier(node.field, Role.FIELD)
            case ast.Matrix():
                yield from self._matrix(node)
            case ast.AffineTerm():
                if node.only is not None:
                    yield self._identifier(node.only, Role.WORD)
                yield from self._names_in_all(node.axes)
            case ast.Call():
                yield from self._call(node)
            case ast.Keyword():  # of a pool: those of calls are read with the call
                yield self._leading_name(node, Role.OPTION, node.name)
                yield from self._names_in(node.value)
            case ast.Node():
                yield from self._names_in_all(getattr(node, field.name) for field in fields(node))
            case tuple():
                yield from self._names_in_all(node)
            case _:
                pass

    def _dim(self, dim: ast.Dim, introduces: bool = False) -> Iterator[Occurrence]:
        yield self._axis(dim.axis, introduces or dim.size is not None)
        if isinstance(dim.size, ast.Identifier):
            role = self.roles[dim.size.name]
            yield self._identifier(dim.size, role, introduces=role is Role.LENGTH)

    def _initial(self, value: ast.Expr | None) -> Iterator[Occurrence]:
        """An initial value, in which `eye` is a word, unless a hyperparameter has that name."""
        is_word = isinstance(value, ast.Name) and value.name == "eye"
        if is_word and self.roles.get("eye") is not Role.HYPER and value is not None:
            yield self._at(value.span, Role.WORD, "eye")
        else:
            yield from self._names_in(value)

    def _learned_shift(self, shift: ast.Shift) -> Iterator[Occurrence]:
        """`shift p[C, *S] = 1`: a parameter and its axes, read as an expression."""
        named = shift.value
        if isinstance(named, ast.Index):
            for axis in named.subscripts:
                if isinstance(axis, (ast.Name, ast.Spread)):
                    yield self._axis(axis)
            named = named.value
        if isinstance(named, ast.Name):
            yield self._at(named.span, Role.PARAM, named.name, introduces=True)
        yield from self._names_in(shift.initial)

    def _output(self, name: ast.Identifier, introduces: bool = True) -> Occurrence:
        """The name of an output. One with the name of an input refers to that, for its dtype."""
        if self.roles.get(name.name) is Role.INPUT:
            return self._identifier(name, Role.INPUT)
        return self._identifier(name, Role.OUTPUT, introduces)

    def _matrix(self, matrix: ast.Matrix) -> Iterator[Occurrence]:
        span = _leading_span(matrix, matrix.name)
        if matrix.name in MATRICES:
            yield self._at(span, Role.MATRIX, matrix.name)
        else:
            yield self._value(span, matrix.name)
        for argument in matrix.arguments:
            if isinstance(argument, ast.Keyword) and isinstance(argument.value, ast.Name):
                yield self._leading_name(argument, Role.OPTION, argument.name)
                yield self._leading_name(argument.value, Role.WORD, argument.value.name)
            else:
                yield from self._names_in(argument)
        if matrix.extra is not None:
            yield self._identifier(matrix.extra, Role.WORD)
        if matrix.within is not None:
            yield self._value(matrix.within.span, matrix.within.name)

    def _call(self, call: ast.Call) -> Iterator[Occurrence]:
        function, is_operation = call.function, call.function.name in CALLABLE
        if is_operation:
            yield self._identifier(function, Role.FUNCTION)
        elif function.name in self.calls:  # another call of a norm, by the name of its `let`
            yield self._value(function.span, function.name)
        else:
            yield self._identifier(function, Role.NORM)
        for argument in call.arguments:
            if function.name in OF_AXES and isinstance(argument, (ast.Name, ast.Spread)):
                yield self._axis(argument)
            else:
                yield from self._names_in(argument)
        for keyword in call.keywords:
            if is_operation:
                yield self._leading_name(keyword, Role.OPTION, keyword.name)
                yield from self._names_in(keyword.value)
            else:
                yield from self._named_argument(
                    self.calls.get(function.name, function.name), keyword
                )
        yield from self._names_in_all((call.over, call.per, call.dtype))

    def _example(self, example: ast.Example) -> Iterator[Occurrence]:
        """What an example gives and expects, by name. Buffers of a clause are unknown names."""
        for items in (example.given, example.expected):
            for item in items:
                if item.name is not None:
                    yield self._example_name(item.name, items is example.expected)
                yield from self._constants(item.value)
        if example.mode is not None:
            yield self._identifier(example.mode, Role.WORD)

    def _example_name(self, name: ast.Identifier, is_expected: bool) -> Occurrence:
        if is_expected and name.name in self.outputs:
            return self._output(name, introduces=False)
        if name.name in CALL_SWITCHES and name.name not in self.roles:
            return self._identifier(name, Role.WORD)
        return self._value(name.span, name.name)

    def _constants(self, constant: ast.Constant) -> Iterator[Occurrence]:
        """The words in what an example gives or expects, such as `nan`."""
        match constant:
            case ast.ListOf(items=items):
                for item in items:
                    yield from self._constants(item)
            case ast.Negative(operand=ast.Name() as word) | (ast.Name() as word):
                yield self._leading_name(word, Role.WORD, word.name)

    def _named_argument(self, norm: str, keyword: ast.Keyword) -> Iterator[Occurrence]:
        """A named argument in a call of a norm: `eps = 1e-3` or `D = (H, E)`."""
        span, value = _leading_span(keyword, keyword.name), keyword.value
        is_axis = isinstance(value, ast.Name) and value.name in self.axes - self.roles.keys()
        if isinstance(value, (ast.Spread, ast.AxisList)) or is_axis:
            yield self._in_other_norm(norm, span, Role.AXIS, keyword.name)
        else:
            yield self._in_other_norm(norm, span, Role.HYPER, keyword.name)
        if is_axis and isinstance(value, ast.Name):
            yield self._axis(value)
        else:
            yield from self._names_in(value)

    def _in_other_norm(self, norm: str, span: Span, role: Role, name: str) -> Occurrence:
        """An occurrence of a name of another norm."""
        return Occurrence(span, Symbol(norm, role, name), False, self.norm.name.name)


class _Entry(_Norm):
    """The occurrences in an entry. Its inputs and values are its own, all else is of the norm."""

    def __init__(self, outer: _Norm, entry: ast.Entry) -> None:
        inputs = ast.Input(span=entry.span, items=entry.inputs)
        statements = (inputs, *entry.statements)
        super().__init__(outer.source, replace(outer.norm, hypers=(), statements=statements))
        self.own = {n for n, r in self.roles.items() if r in (Role.INPUT, Role.VALUE)}
        self.entry = entry
        self.roles = {**self.roles, **outer.roles, **{name: self.roles[name] for name in self.own}}
        self.axes |= outer.axes
        self.pieces |= outer.pieces - self.own

    def inside(self) -> Iterator[Occurrence]:
        """The occurrences, in the order of the tree."""
        yield from self._names_in_all((*self.entry.inputs, *self.entry.statements))

    def _owner(self, role: Role, name: str) -> str:
        norm = self.norm.name.name
        is_own = role is Role.OUTPUT or (name in self.own and role is not Role.AXIS)
        return f"{norm}.{self.entry.name.name}" if is_own else norm


def _called_norms(norm: ast.Norm) -> Iterator[tuple[str, str]]:
    for statement in norm.statements:
        if isinstance(statement, ast.Let) and isinstance(statement.value, ast.Call):
            called = statement.value.function.name
            if called not in CALLABLE:
                yield statement.name.name, called


def _leading_span(node: ast.Node, name: str) -> Span:
    return Span(node.span.source, node.span.start, node.span.start + len(name))


def _is_clause_word(node: ast.Shift | ast.Scale) -> bool:
    """Whether the clause has one of its words instead of a value."""
    return isinstance(node.value, ast.Name) and node.value.name in CLAUSE_WORDS[node.kind]
