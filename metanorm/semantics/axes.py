"""The axes of a norm as its statements introduce them: names, splits, who fixes their length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial, reduce

from metanorm.diagnostics.axes import AxisTwice, UnknownAxis
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.lengths import BadLength, BadSplit, FreeAxis, TwoSizes
from metanorm.ir.nodes import Argument, Axis, Divisible
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, apply, leaves, scalar_text
from metanorm.ir.space import Space
from metanorm.semantics.reserved import check_name
from metanorm.source import Span
from metanorm.syntax import ast


@dataclass
class Declared:
    """Where an axis was introduced, where its size was given, and why it may be free."""

    span: Span
    size_span: Span | None = None
    free: str = ""  # what keeps its length from being fixed, as a predicate
    claims: list[tuple[str, Span]] = field(default_factory=list)  # what needs it fixed


class AxisTable:
    """The axes of one program while its norm is lowered, callees included."""

    def __init__(self, problems: Collector) -> None:
        self.problems = problems
        self.space = Space(())
        self.declared: dict[str, Declared] = {}
        self.arguments: dict[str, Argument] = {}  # sizes that the constructor asks for
        self.splits: list[Divisible] = []  # axes that are split, and what their lengths contain
        self.rests: dict[str, tuple[str, Scalar]] = {}  # what parts are left of, divided by what
        self.input_span: Span | None = None
        self.unsure: set[str] = set()  # axes of which it is reported elsewhere what is wrong
        self.on_weight = False  # what lives on these axes is made when there is a weight

    # ---- introducing

    def introduce(self, dim: ast.Dim, hypers: dict[str, Scalar], name: str | None = None) -> str:
        """Enter an axis, or check that it is used as before; returns its name in the program."""
        name = name or dim.axis.name
        if name not in self.declared:
            check_name(ast.Identifier(span=dim.axis.span, name=name), self.problems)
            self.declared[name] = Declared(dim.axis.span)
            self.space.add(Axis(name, dim.axis.variadic))
            if dim.axis.variadic and dim.size is None:
                self.declared[name].free = "stands for any number of axes"
        elif self.space[name].variadic != dim.axis.variadic:
            self.unknown(dim.axis)
        if dim.size is not None:
            self._fix(name, self._size(name, dim, hypers), dim.size.span)
        return name

    def _size(self, name: str, dim: ast.Dim, hypers: dict[str, Scalar]) -> Scalar:
        if isinstance(dim.size, ast.Number):
            value = dim.size.value
            if not (value == int(value) and 1 <= value < 2**31):
                self.problems.add(BadLength(dim.size.span, name))
            return Const(value)
        assert dim.size is not None
        if dim.size.name in hypers:
            return hypers[dim.size.name]
        check_name(dim.size, self.problems, attribute=True)
        return self._ask(dim.size.name, name)

    def _ask(self, argument: str, axis: str) -> Scalar:
        before = self.arguments.get(argument)
        axes = (*(before.axes if before else ()), axis)
        self.arguments[argument] = Argument(argument, "size", axes=tuple(dict.fromkeys(axes)))
        return Hyper(argument)

    def _fix(self, name: str, size: Scalar, span: Span) -> None:
        known, axis = self.declared[name], self.space[name]
        if axis.size is not None and axis.size != size:
            first = known.size_span or known.span
            old = scalar_text(axis.size)
            self.problems.add(TwoSizes(span, name, scalar_text(size), first, old))
            return
        known.size_span = known.size_span or span
        self.space.add(Axis(name, axis.variadic, size, axis.parts))

    def split(self, statement: ast.AxisSplit, hypers: dict[str, Scalar]) -> None:
        """`axis C = (G = groups, D)`: parts are axes of their own, one takes what is left."""
        name = statement.axis.name
        if name not in self.declared:
            self.unknown(ast.AxisRef(span=statement.axis.span, name=name))
            self._give_up(statement)
            return
        known = [part.axis.name for part in statement.parts if part.axis.name in self.declared]
        open_parts = [part for part in statement.parts if part.size is None]
        reason = ""
        hint = "name a part by a new name"
        if self.space[name].variadic or any(part.axis.variadic for part in statement.parts):
            reason = "a group of axes has no parts"
            hint = "name the axis in the `input`, and split that one: `x[N, C, H, W]`"
        elif self.space[name].parts:
            reason = "it is split already"
            hint = "split it once, into all its parts"
        elif known:
            reason = f"`{known[0]}` is an axis already"
        elif len({part.axis.name for part in statement.parts}) < len(statement.parts):
            reason = "two parts have the same name"
        elif len(open_parts) != 1:
            reason = "every part has a given length"
            if open_parts:
                reason = f"the lengths of {len(open_parts)} parts are not given"
            hint = f"give the length of all parts but one: `axis {name} = (G = groups, D)`"
        if reason:
            self.problems.add(BadSplit(statement.span, name, reason, hint))
            self._give_up(statement)
            return
        for part in statement.parts:
            self.introduce(part, hypers)
        given = [self.space[p.axis.name].size for p in statement.parts if p.size is not None]
        rest: Scalar = SizeOf(name)
        for size in given:
            assert size is not None
            rest = Apply("floordiv", (rest, size))
        last = open_parts[0].axis.name
        self.space.add(Axis(last, size=rest))
        whole = self.space[name]
        parts = tuple(part.axis.name for part in statement.parts)
        self.space.add(Axis(name, size=whole.size, parts=parts))
        if given:
            by = reduce(partial(apply, "mul"), (size for size in given if size is not None))
            self.rests[last] = (name, by)
            while name in self.rests:  # what is left of an axis is split in turn
                name, more = self.rests[name]
                by = apply("mul", more, by)
            self.splits.append(Divisible(name, by))

    def _give_up(self, statement: ast.AxisSplit) -> None:
        names = {part.axis.name for part in statement.parts}
        self.unsure |= names - self.declared.keys()

    def twin(self, name: str, old: str, span: Span) -> str:
        """A new axis as long as another one, which a value is renamed to."""
        while name in self.declared:
            name += "_"
        check_name(ast.Identifier(span=span, name=name), self.problems)
        self.declared[name] = Declared(span)
        self.space.add(Axis(name, size=SizeOf(old)))
        return name

    # ---- using

    def resolve(self, ref: ast.AxisRef, alone: bool = False) -> tuple[str, ...] | None:
        """The leaves of an axis, or `None` after reporting that there is no such axis."""
        if ref.name not in self.declared or self.space[ref.name].variadic != ref.variadic:
            self.unknown(ref, alone=alone)
            return None
        return self.space.leaves(ref.name)

    def unknown(self, ref: ast.AxisRef, can_size: bool = False, alone: bool = False) -> None:
        """Report an axis that nothing introduces."""
        if ref.name in self.unsure:
            return
        shown = f"*{ref.name}" if ref.variadic else ref.name
        known, declared = self.listed(), self.input_span
        self.problems.add(UnknownAxis(ref.span, shown, known, declared, can_size, alone))

    def listed(self) -> tuple[str, ...]:
        """The axes as a person writes them."""
        return tuple(self.shown(name) for name in self.declared)

    def shown(self, name: str) -> str:
        """`C`, or `*S`."""
        return f"*{name}" if self.space[name].variadic else name

    def distinct(self, refs: Sequence[ast.AxisRef], owner: str = "") -> bool:
        """Whether each axis is listed once; reports the first that is not."""
        square = owner if len(refs) == 2 else ""
        seen: dict[str, Span] = {}
        for ref in refs:
            if ref.name in seen:
                shown = f"*{ref.name}" if ref.variadic else ref.name
                self.problems.add(AxisTwice(ref.span, shown, seen[ref.name], square))
                return False
            seen[ref.name] = ref.span
        return True

    # ---- fixing lengths

    def claim(self, name: str, what: str, span: Span) -> None:
        """Something that is created with the module lives on this axis: fix its length.

        A norm for weights asks for none: parameters are made for the weight that it is put on.
        """
        if self.on_weight:
            return
        self.declared[name].claims.append((what, span))
        size = self.space[name].size
        for leaf in leaves(size) if size is not None else ():
            if isinstance(leaf, SizeOf):  # a part that takes what is left of another axis
                self.claim(leaf.axis, what, span)
        if self.space[name].size is None and not self.declared[name].free:
            argument = name.lower()
            check_name(ast.Identifier(span=span, name=argument), self.problems, attribute=True)
            axis = self.space[name]
            self.space.add(Axis(name, axis.variadic, self._ask(argument, name), axis.parts))

    def keep_free(self, name: str, why: str) -> None:
        """The length of this axis differs from call to call, unless the spec itself names it.

        That of a part follows from the axis that it is a part of.
        """
        is_part = any(name in axis.parts for axis in self.space)
        if not self.declared[name].free and not is_part:
            self.declared[name].free = why

    def named(self, name: str) -> bool:
        """Whether the spec itself says how long the axis is."""
        return self.declared[name].size_span is not None

    def report_free(self) -> None:
        """Report everything created with the module that lives on a free axis."""
        for name, known in self.declared.items():
            if known.free and known.size_span is None:
                for what, span in known.claims[:1]:
                    problem = FreeAxis(span, self.shown(name), what, known.free, known.span)
                    self.problems.add(problem)
