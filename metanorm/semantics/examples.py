"""The examples of a norm as data: what a call is given, and what it is expected to give.

Everything is checked here that does not need numbers to be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.examples import BadValueInExample, IncompleteExample, UnknownInExample
from metanorm.diagnostics.syntax import GivenTwice
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Draw
from metanorm.ir.program import Argument, Declaration, InputDecl, Program
from metanorm.ir.space import Space
from metanorm.source import Span
from metanorm.syntax import ast

# A number, a truth value, a string or `None`; lists are tuples.
Constant = Union[float, bool, str, None, tuple["Constant", ...]]

WORDS: Mapping[str, Constant] = {
    "true": True,
    "false": False,
    "None": None,
    "nan": math.nan,
    "inf": math.inf,
}
TOLERANCE = 1e-4
STATISTICS = "track_running_stats"
MODES = {"train": True, "eval": False}


@dataclass(frozen=True)
class Example:
    """One example. `arguments` are those of the constructor, lengths included.

    `tensors` holds inputs, parameters and buffers. Values are numbers or tuples in tuples.
    """

    span: Span
    arguments: Mapping[str, Constant]
    tensors: Mapping[str, Constant]
    expected: Mapping[str, Constant]
    training: bool = True
    within: float = TOLERANCE


def examples_of(norm: ast.Norm, program: Program, problems: Collector) -> tuple[Example, ...]:
    """The examples of a norm; those with errors are reported and left out."""
    statements = [s for s in norm.statements if isinstance(s, ast.Example)]
    examples: list[Example] = []
    for statement in statements:
        collector = Collector()
        example = _Reader(statement, program, collector).example()
        problems.extend(collector.sorted())
        if not collector.has_errors:
            examples.append(example)
    return tuple(examples)


class _Reader:
    """Reads one example."""

    def __init__(self, statement: ast.Example, program: Program, problems: Collector) -> None:
        self.statement = statement
        self.program = program
        self.problems = problems
        self.space = Space(program.axes)
        declarations: tuple[Declaration, ...] = (*program.given_inputs, *program.state)
        self.declared: dict[str, Declaration] = {d.name: d for d in declarations}
        self.asked: dict[str, Argument] = {a.name: a for a in program.constructor_arguments}
        self.switches = {s.name for s in program.switches}

    def example(self) -> Example:
        statement = self.statement
        mode = statement.mode
        if mode is not None and mode.name not in MODES:
            self.problems.add(WrongKind(mode.span, f"`{mode.name}`", "a mode", "train or eval"))
        if self.program.drawn_inputs and (mode is None or mode.name == "train"):
            actual = "a call that draws random numbers"
            hint = "say what it gives in evaluation: `in eval` before `gives`"
            self.problems.add(WrongKind(statement.span, actual, "one that can be repeated", hint))
        tensors: dict[str, Constant] = {}
        arguments: dict[str, Constant] = {}
        for name, item in self._named(statement.given, self._givable()):
            if name in self.declared and not self._is_switch(name, item):
                tensors[name] = self._tensor(name, item, self.declared[name])
            else:
                arguments[name] = self._argument(name, item)
        expected = {
            name: self._expected(name, item)
            for name, item in self._named(statement.expected, self._expectable())
        }
        self._report_absent(arguments)
        if not self.problems.has_errors:
            arguments |= self._lengths(tensors, arguments)
            self._report_missing(tensors, arguments)
        return Example(
            span=statement.span,
            arguments=arguments,
            tensors=tensors,
            expected=expected,
            training=MODES.get(mode.name, True) if mode is not None else True,
            within=statement.within.value if statement.within is not None else TOLERANCE,
        )

    # ---- names

    def _givable(self) -> tuple[str, ...]:
        return (*self.declared, *self.asked, *self.switches)

    def _expectable(self) -> tuple[str, ...]:
        return (*(n for n, _ in self.program.outputs), *(b.name for b in self.program.buffers))

    def _named(
        self, items: Sequence[ast.ExampleItem], names: Sequence[str]
    ) -> Iterator[tuple[str, ast.ExampleItem]]:
        """The items with their names, without those that are unknown or doubled."""
        expects = items is self.statement.expected
        what = (
            "an output or a buffer" if expects else "an input, an argument, a parameter or a buffer"
        )
        seen: set[str] = set()
        for item in items:
            name = item.name.name if item.name is not None else names[0]
            span = item.name.span if item.name is not None else item.span
            if name not in names:
                kind = f"{what} of `{self.program.name}`"
                self.problems.add(UnknownInExample(span, name, kind, tuple(names)))
            elif name in seen:
                self.problems.add(GivenTwice(span, name))
            else:
                seen.add(name)
                yield name, item

    def _is_switch(self, name: str, item: ast.ExampleItem) -> bool:
        """Whether a name that is also a parameter's means its switch, as in `bias = false`."""
        is_word = isinstance(item.value, ast.Name) and item.value.name in ("true", "false")
        return name in self.switches and is_word

    # ---- values

    def _tensor(self, name: str, item: ast.ExampleItem, decl: Declaration) -> Constant:
        value = self._constant(item.value)
        sort = decl.written_sort if isinstance(decl, InputDecl) else "tensor"
        if value is None and isinstance(decl, InputDecl) and not decl.required:
            return value
        if sort == "matrix" and isinstance(value, str):
            return value
        fits, elements = ELEMENTS[sort]
        if not all(map(fits, _elements(value))):
            self._report(name, item, f"made of {elements}", "not")
        shape = _shape(value)
        if shape is None:
            self._report(name, item, "a tensor", "of lists that differ in length")
        elif not self._fits(shape, decl):
            self._report(name, item, _axes_text(self._dims(decl), self.space), _levels_text(shape))
        return value

    def _fits(self, shape: tuple[int, ...], decl: Declaration) -> bool:
        """Whether a tensor has as many axes as were declared."""
        dims = self._dims(decl)
        if shape == () and not isinstance(decl, InputDecl):
            return True  # one number for all elements
        fixed = [dim for dim in dims if not self.space[dim].variadic]
        return len(shape) == len(dims) if fixed == list(dims) else len(shape) >= len(fixed)

    def _dims(self, decl: Declaration) -> tuple[str, ...]:
        """The axes of a declaration, of which edges have one more, for their two ends."""
        is_edges = isinstance(decl, InputDecl) and decl.sort == "edges"
        return (*decl.dims, *decl.dims) if is_edges else decl.dims

    def _argument(self, name: str, item: ast.ExampleItem) -> Constant:
        value = self._constant(item.value)
        type_ = self.asked[name].type if name in self.asked else "bool"
        fits, expected_kind = ARGUMENTS[type_]
        choices = self.asked[name].choices if name in self.asked else ()
        if not fits(value) or (choices and value not in choices):
            expected_kind = f"one of {', '.join(choices)}" if choices else expected_kind
            self._report(
                name,
                item,
                expected_kind,
                _kind_text(value),
                f"write `{name} = ...` with {expected_kind}",
            )
        return _whole(value) if type_ in ("int", "size") else value

    def _expected(self, name: str, item: ast.ExampleItem) -> Constant:
        value = self._constant(item.value)
        if _shape(value) is None:
            self._report(name, item, "a tensor", "of lists that differ in length")
        elif not all(map(_is_number, _elements(value))):
            self._report(name, item, "made of numbers", "not")
        return value

    def _constant(self, node: ast.Constant) -> Constant:
        match node:
            case ast.Number():
                return node.value
            case ast.Text():
                return node.value
            case ast.ListOf():
                return tuple(self._constant(item) for item in node.items)
            case ast.Negative():
                value = self._constant(node.operand)  # type: ignore[arg-type] # a number or a name
                return -value if isinstance(value, float) else value
            case ast.Name():
                if node.name not in WORDS:
                    what = "a number or one of the words of examples"
                    self.problems.add(UnknownInExample(node.span, node.name, what, tuple(WORDS)))
                return WORDS.get(node.name, math.nan)
            case ast.Missing():
                return None

    def _report(
        self, name: str, item: ast.ExampleItem, expected_kind: str, actual: str, hint: str = ""
    ) -> None:
        problem = BadValueInExample(item.value.span, name, expected_kind, actual, hint)
        self.problems.add(problem)

    # ---- what follows from the tensors

    def _lengths(
        self, tensors: Mapping[str, Constant], arguments: Mapping[str, Constant]
    ) -> dict[str, Constant]:
        """The arguments that are lengths, as far as the shapes of tensors tell them."""
        shapes: dict[str, tuple[int, ...]] = {}
        for argument in self.asked.values():
            length = arguments.get(argument.name)
            if argument.type == "size" and length is not None:
                parts = length if isinstance(length, tuple) else (length,)
                shapes[argument.axes[0]] = tuple(
                    int(n) for n in parts if isinstance(n, (int, float))
                )
        known_count = -1
        while known_count != len(shapes):  # a shape may tell what another one lacks
            known_count = len(shapes)
            for name, value in tensors.items():
                decl, shape = self.declared[name], _shape(value)
                if shape and value is not None and _has_shape_of_axes(decl):
                    shapes = {**self._shapes_of(decl.dims, shape, shapes), **shapes}
        return {
            a.name: shapes[a.axes[0]] if self.space[a.axes[0]].variadic else shapes[a.axes[0]][0]
            for a in self.asked.values()
            if a.type == "size" and a.name not in arguments and a.axes[0] in shapes
        }

    def _shapes_of(
        self,
        dims: Sequence[str],
        shape: tuple[int, ...],
        known_shapes: Mapping[str, tuple[int, ...]],
    ) -> dict[str, tuple[int, ...]]:
        """The shape of each axis of a tensor, if at most one group of axes is open."""
        open_groups = [d for d in dims if self.space[d].variadic and d not in known_shapes]
        if len(open_groups) > 1:
            return {}
        ranks = {d: len(known_shapes[d]) if d in known_shapes else 1 for d in dims}
        for dim in open_groups:
            ranks[dim] = len(shape) - sum(rank for d, rank in ranks.items() if d != dim)
        shape_by_dim, start = {}, 0
        for dim in dims:
            shape_by_dim[dim] = shape[start : start + ranks[dim]]
            start += ranks[dim]
        return shape_by_dim

    def _report_absent(self, arguments: Mapping[str, Constant]) -> None:
        """Report parameters and running statistics that the switches leave out."""
        switched = {p.name: p.switches for p in self.program.params}
        switched |= {b.name: (STATISTICS,) for b in self.program.buffers if b.tracked}
        values = {s.name: arguments.get(s.name, s.default) for s in self.program.switches}
        for item in (*self.statement.given, *self.statement.expected):
            name = item.name.name if item.name is not None else ""
            off = [s for s in switched.get(name, ()) if values.get(s) is False]
            if off and not self._is_switch(name, item):
                what = f"of a norm with `{off[0]} = true`"
                hint = f"leave `{name}` out, or write `{off[0]} = true`"
                self._report(name, item, what, "one without", hint)

    def _report_missing(
        self, tensors: Mapping[str, Constant], arguments: Mapping[str, Constant]
    ) -> None:
        missing = [
            ("the input", d.name)
            for d in self.program.inputs
            if d.required and d.name not in tensors
        ]
        missing += [
            ("the length" if a.type == "size" else "the argument", a.name)
            for a in self.asked.values()
            if a.required and a.name not in arguments
        ]
        missing += [
            ("what begins with random numbers,", d.name)
            for d in self.program.state
            if isinstance(d.init, Draw) and d.name not in tensors
        ]
        if missing:
            self.problems.add(IncompleteExample(self.statement.span, tuple(missing)))


def _has_shape_of_axes(decl: Declaration) -> bool:
    """Whether a tensor is as long as its axes: edges, offsets and matrices are not."""
    is_other = ("edges", "matrix", "offsets")
    return not (isinstance(decl, InputDecl) and decl.written_sort in is_other)


# ---- kinds of values


def _is_number(value: Constant) -> bool:
    return isinstance(value, float) and not isinstance(value, bool)


def _is_whole(value: Constant) -> bool:
    return isinstance(value, float) and value.is_integer()


def _whole(value: Constant) -> Constant:
    """Whole numbers as `int`; what is none was reported."""
    if isinstance(value, tuple):
        return tuple(map(_whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_bool(value: Constant) -> bool:
    return isinstance(value, bool)


def _is_length(value: Constant) -> bool:
    return all(map(_is_whole, value)) if isinstance(value, tuple) else _is_whole(value)


Kind = tuple[Callable[[Constant], bool], str]
ELEMENTS: Mapping[str, Kind] = {
    "tensor": (_is_number, "numbers"),
    "matrix": (_is_number, "numbers"),
    "mask": (_is_bool, "true and false"),
    "index": (_is_whole, "whole numbers"),
    "whole": (_is_whole, "whole numbers"),
    "edges": (_is_whole, "whole numbers"),
    "offsets": (_is_whole, "whole numbers"),
}
ARGUMENTS: Mapping[str, Kind] = {
    "int": (_is_whole, "a whole number"),
    "float": (lambda value: value is None or _is_number(value), "a number or None"),
    "bool": (_is_bool, "true or false"),
    "size": (_is_length, "a length, or a list of them"),
    "choice": (lambda value: isinstance(value, str), "a string"),
    "matrix": (lambda value: isinstance(value, (str, tuple)), "a matrix, or the name of one"),
}


def _elements(value: Constant) -> Iterator[Constant]:
    if isinstance(value, tuple):
        for item in value:
            yield from _elements(item)
    else:
        yield value


def _shape(value: Constant) -> tuple[int, ...] | None:
    """The shape of lists in lists; `None` where lists of a level differ."""
    if not isinstance(value, tuple):
        return ()
    inner = {_shape(item) for item in value} or {()}
    if len(inner) > 1 or None in inner:
        return None
    (rest,) = inner
    return (len(value), *rest) if rest is not None else None


def _axes_text(dims: Sequence[str], space: Space) -> str:
    if not dims:
        return "a single number"
    names = ", ".join(f"*{d}" if space[d].variadic else d for d in dims)
    return f"a tensor with the axes [{names}]"


def _levels_text(shape: tuple[int, ...]) -> str:
    if not shape:
        return "a single number"
    return f"one with {len(shape)} ax{'is' if len(shape) == 1 else 'es'}"


def _kind_text(value: Constant) -> str:
    if isinstance(value, tuple):
        return "a list"
    return {bool: "true or false", str: "a string", float: "a number"}.get(type(value), "None")
