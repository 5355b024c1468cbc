"""Occurrences of symbols in each kind of node: one function for a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import singledispatch

from metanorm.ir.ops import CALLABLE, DRAWS, MATRICES, STRUCTURED
from metanorm.semantics.occurrence_scope import EntryScope, OccurrenceScope, leading_span
from metanorm.semantics.reserved import AFFINE_SWITCHES
from metanorm.semantics.symbols import CALL, OF_AXES, Occurrence, Role
from metanorm.syntax import ast
from metanorm.syntax.grammar import CLAUSE_WORDS
from metanorm.syntax.tree_from_text import CALL_SWITCHES


@singledispatch
def occurrences_in(node: object, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """The occurrences in a node and below it, in the order of the tree; none in other objects."""
    return iter(())


@occurrences_in.register
def _below(node: ast.Node, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from _in_all((getattr(node, field.name) for field in fields(node)), scope)


@occurrences_in.register(tuple)
def _in_tuple(nodes: tuple[object, ...], scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from _in_all(nodes, scope)


def _in_all(nodes: Iterable[object], scope: OccurrenceScope) -> Iterator[Occurrence]:
    for node in nodes:
        yield from occurrences_in(node, scope)


# ---- declarations


@occurrences_in.register
def _norm(norm: ast.Norm, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(norm.name, Role.NORM, introduces=True)
    if norm.target is not None:
        yield scope.identifier(norm.target, Role.WORD)
    yield from _in_all((*norm.hypers, *norm.statements), scope)


@occurrences_in.register
def _hyper(hyper: ast.Hyper, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(hyper.name, Role.HYPER, introduces=True)
    if hyper.type is not None:
        yield scope.identifier(hyper.type, Role.SORT)
    for axis in hyper.axes:
        yield scope.identifier(axis, Role.AXIS)
    if isinstance(hyper.default, ast.Name) and hyper.default.name in STRUCTURED:
        yield scope.leading_name(hyper.default, Role.WORD, hyper.default.name)
    else:
        yield from occurrences_in(hyper.default, scope)


@occurrences_in.register
def _input_item(item: ast.InputItem, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(item.name, Role.INPUT, introduces=True)
    if item.sort is not None:
        yield scope.identifier(item.sort, Role.SORT)
    for dim in (*item.dims, *((item.table,) if item.table else ())):
        yield from _dim(dim, scope, introduces=True)
    yield from occurrences_in(item.default, scope)


@occurrences_in.register
def _dim(dim: ast.Dim, scope: OccurrenceScope, introduces: bool = False) -> Iterator[Occurrence]:
    yield scope.axis(dim.axis, introduces or dim.size is not None)
    if isinstance(dim.size, ast.Identifier):
        role = scope.roles[dim.size.name]
        yield scope.identifier(dim.size, role, introduces=role is Role.LENGTH)


@occurrences_in.register
def _axis_split(split: ast.AxisSplit, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(split.axis, Role.AXIS)
    for part in split.parts:
        yield from _dim(part, scope, introduces=True)


@occurrences_in.register
def _axis_cut(cut: ast.AxisCut, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(cut.axis, Role.AXIS)
    for piece in cut.pieces:
        yield scope.axis(piece.axis, introduces=True)
        yield from occurrences_in(piece.size, scope)


@occurrences_in.register
def _param_item(item: ast.ParamItem, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(item.name, Role.PARAM, introduces=True)
    yield from _in_all((*item.dims, item.low, item.high), scope)
    yield from _initial(item.value, scope)
    yield from occurrences_in(item.first, scope)
    if item.switch is not None:
        is_word = item.switch.name in AFFINE_SWITCHES
        role = Role.WORD if is_word else Role.HYPER
        yield scope.identifier(item.switch, role, introduces=not is_word)


@occurrences_in.register
def _buffer_item(item: ast.BufferItem, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(item.name, Role.BUFFER, introduces=True)
    yield from occurrences_in(item.dims, scope)
    yield from _initial(item.value, scope)
    yield from occurrences_in(item.first, scope)


def _initial(value: ast.Expr | None, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """An initial value, in which `eye` is a word, unless a hyperparameter has that name."""
    is_word = isinstance(value, ast.Name) and value.name == "eye"
    if is_word and scope.roles.get("eye") is not Role.HYPER and value is not None:
        yield scope.at(value.span, Role.WORD, "eye")
    else:
        yield from occurrences_in(value, scope)


# ---- clauses and statements


@occurrences_in.register
def _shift(shift: ast.Shift, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from (_clause if shift.initial is None else _learned_shift)(shift, scope)


@occurrences_in.register
def _scale(scale: ast.Scale, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from _clause(scale, scope)


def _clause(clause: ast.Shift | ast.Scale, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """A clause that has a value, or one of its words instead."""
    if isinstance(clause.value, ast.Name) and clause.value.name in CLAUSE_WORDS[clause.kind]:
        yield scope.leading_name(clause.value, Role.WORD, clause.value.name)
    else:
        yield from _below(clause, scope)


def _learned_shift(shift: ast.Shift, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """`shift p[C, *S] = 1`: a parameter and its axes, read as an expression."""
    named = shift.value
    if isinstance(named, ast.Index):
        for axis in named.subscripts:
            if isinstance(axis, (ast.Name, ast.Spread)):
                yield scope.axis(axis)
        named = named.value
    if isinstance(named, ast.Name):
        yield scope.at(named.span, Role.PARAM, named.name, introduces=True)
    yield from occurrences_in(shift.initial, scope)


@occurrences_in.register
def _stat(stat: ast.Stat, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(stat.name, Role.VALUE, introduces=True)
    yield from occurrences_in(stat.pool, scope)


@occurrences_in.register
def _mix(mix: ast.Mix, scope: OccurrenceScope) -> Iterator[Occurrence]:
    for stat in mix.stats:
        yield scope.value(stat.span, stat.name)
    yield scope.identifier(mix.by, Role.FUNCTION)
    yield from occurrences_in(mix.argument, scope)


@occurrences_in.register
def _tracked(tracked: ast.Tracked, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from occurrences_in(tracked.momentum, scope)
    yield from _initial(tracked.initial, scope)
    if tracked.into is not None:
        yield scope.identifier(tracked.into, Role.WORD)


@occurrences_in.register
def _affine_term(term: ast.AffineTerm, scope: OccurrenceScope) -> Iterator[Occurrence]:
    if term.only is not None:
        yield scope.identifier(term.only, Role.WORD)
    yield from _in_all(term.axes, scope)


@occurrences_in.register
def _let(let: ast.Let, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(let.name, Role.VALUE, introduces=True)
    yield from _in_all((*let.dims, let.value), scope)


@occurrences_in.register
def _entry(entry: ast.Entry, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.identifier(entry.name, Role.OUTPUT, introduces=True)
    yield from _in_all((*entry.inputs, *entry.statements), EntryScope(scope, entry))


@occurrences_in.register
def _gradient(gradient: ast.Gradient, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.value(gradient.name.span, gradient.name.name)
    yield from occurrences_in(gradient.value, scope)


@occurrences_in.register
def _update(update: ast.Update, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.value(update.name.span, update.name.name)
    yield from occurrences_in(update.value, scope)
    if update.mode is not None:
        yield scope.identifier(update.mode, Role.WORD)


@occurrences_in.register
def _assignment(assignment: ast.Assignment, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """Of a `let`, or of a value local to a `repeat`."""
    role = scope.roles[assignment.name.name]
    yield scope.identifier(assignment.name, role, introduces=role is Role.VALUE)
    yield from occurrences_in(assignment.value, scope)


@occurrences_in.register
def _output_item(item: ast.OutputItem, scope: OccurrenceScope) -> Iterator[Occurrence]:
    if item.name is not None:
        yield scope.output(item.name)
    yield from _in_all((item.value, item.dtype), scope)


# ---- examples


@occurrences_in.register
def _example(example: ast.Example, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """What an example gives and expects, by name. Buffers of a clause are unknown names."""
    for items in (example.given, example.expected):
        for item in items:
            if item.name is not None:
                yield _example_name(item.name, items is example.expected, scope)
            yield from _constants(item.value, scope)
    if example.mode is not None:
        yield scope.identifier(example.mode, Role.WORD)


def _example_name(name: ast.Identifier, is_expected: bool, scope: OccurrenceScope) -> Occurrence:
    if is_expected and name.name in scope.outputs:
        return scope.output(name, introduces=False)
    if name.name in CALL_SWITCHES and name.name not in scope.roles:
        return scope.identifier(name, Role.WORD)
    return scope.value(name.span, name.name)


def _constants(constant: ast.Constant, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """The words in what an example gives or expects, such as `nan`."""
    match constant:
        case ast.ListOf(items=items):
            for item in items:
                yield from _constants(item, scope)
        case ast.Negative(operand=ast.Name() as word) | (ast.Name() as word):
            yield scope.leading_name(word, Role.WORD, word.name)


# ---- expressions


@occurrences_in.register
def _name(name: ast.Name, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.value(name.span, name.name)


@occurrences_in.register
def _axis_ref(axis: ast.AxisRef, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.axis(axis)


@occurrences_in.register
def _spread(spread: ast.Spread, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.axis(spread)


@occurrences_in.register
def _rename(rename: ast.Rename, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield scope.axis(rename.old)
    yield scope.axis(rename.new, introduces=True)


@occurrences_in.register
def _index(index: ast.Index, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from occurrences_in(index.value, scope)
    for subscript in index.subscripts:
        if isinstance(subscript, ast.Name) and subscript.name in scope.pieces:
            yield scope.axis(subscript)
        else:
            yield from occurrences_in(subscript, scope)


@occurrences_in.register
def _field_of(access: ast.FieldOf, scope: OccurrenceScope) -> Iterator[Occurrence]:
    yield from occurrences_in(access.value, scope)
    owner, field = getattr(access.value, "name", ""), access.field
    called = scope.calls.get(owner)
    if called is not None:  # an output of the norm that is called
        yield scope.in_other_norm(called, field.span, Role.OUTPUT, field.name)
    elif scope.roles.get(owner) is Role.WORD and field.name in scope.outputs:  # `grad.y`
        yield scope.output(field, introduces=False)
    elif scope.roles.get(owner) is Role.WORD and field.name in scope.roles:
        yield scope.value(field.span, field.name)
    else:
        yield scope.identifier(access.field, Role.FIELD)


@occurrences_in.register
def _dtype(dtype: ast.Dtype, scope: OccurrenceScope) -> Iterator[Occurrence]:
    if dtype.like:
        yield scope.value(dtype.name.span, dtype.name.name)
    else:
        yield scope.identifier(dtype.name, Role.WORD)


@occurrences_in.register
def _matrix(matrix: ast.Matrix, scope: OccurrenceScope) -> Iterator[Occurrence]:
    span = leading_span(matrix, matrix.name)
    if matrix.name in MATRICES:
        yield scope.at(span, Role.MATRIX, matrix.name)
    else:
        yield scope.value(span, matrix.name)
    for argument in matrix.arguments:
        if isinstance(argument, ast.Keyword) and isinstance(argument.value, ast.Name):
            yield scope.leading_name(argument, Role.OPTION, argument.name)
            yield scope.leading_name(argument.value, Role.WORD, argument.value.name)
        else:
            yield from occurrences_in(argument, scope)
    if matrix.extra is not None:
        yield scope.identifier(matrix.extra, Role.WORD)
    if matrix.within is not None:
        yield scope.value(matrix.within.span, matrix.within.name)


@occurrences_in.register
def _call(call: ast.Call, scope: OccurrenceScope) -> Iterator[Occurrence]:
    function, is_operation = call.function, call.function.name in CALLABLE
    if is_operation:
        yield scope.identifier(function, Role.FUNCTION)
    elif function.name in scope.calls:  # another call of a norm, by the name of its `let`
        yield scope.value(function.span, function.name)
    else:
        yield scope.identifier(function, Role.NORM)
    for argument in call.arguments:
        if function.name in OF_AXES and isinstance(argument, (ast.Name, ast.Spread)):
            yield scope.axis(argument)
        else:
            yield from occurrences_in(argument, scope)
    for keyword in call.keywords:
        if is_operation:
            yield from occurrences_in(keyword, scope)
        else:
            called = scope.calls.get(function.name, function.name)
            yield from _named_argument(called, keyword, scope)
    yield from _in_all((call.over, call.dtype), scope)
    for occurrence in _in_all((call.per,), scope):
        is_word = function.name in DRAWS and occurrence.symbol.name == CALL not in scope.declared
        yield scope.at(occurrence.span, Role.WORD, CALL) if is_word else occurrence


@occurrences_in.register
def _option(keyword: ast.Keyword, scope: OccurrenceScope) -> Iterator[Occurrence]:
    """An option of a pool or of an operation."""
    yield scope.leading_name(keyword, Role.OPTION, keyword.name)
    yield from occurrences_in(keyword.value, scope)


def _named_argument(
    norm: str, keyword: ast.Keyword, scope: OccurrenceScope
) -> Iterator[Occurrence]:
    """A named argument in a call of a norm: `eps = 1e-3` or `D = (H, E)`."""
    span, value = leading_span(keyword, keyword.name), keyword.value
    is_axis = isinstance(value, ast.Name) and value.name in scope.axes - scope.roles.keys()
    if isinstance(value, (ast.Spread, ast.AxisList)) or is_axis:
        yield scope.in_other_norm(norm, span, Role.AXIS, keyword.name)
    else:
        yield scope.in_other_norm(norm, span, Role.HYPER, keyword.name)  # if no input has it
    if is_axis and isinstance(value, ast.Name):
        yield scope.axis(value)
    else:
        yield from occurrences_in(value, scope)
