"""The axes of a norm as its statements introduce them: names, splits and fixed lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce

from metanorm.diagnostics.axes import AxisTwice, UnknownAxis
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.lengths import BadLength, BadSplit, FreeAxis, TwoSizes
from metanorm.ir.nodes import Axis
from metanorm.ir.program import Argument, Divisible, Holds
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, apply, leaves, scalar_text
from metanorm.ir.space import Space
from metanorm.semantics.reserved import check_name
from metanorm.source import Span
from metanorm.syntax import ast


@dataclass
class Declared:
    """The declaration of an axis: where it is introduced and sized, and why it may be free."""

    span: Span
    size_span: Span | None = None
    free: str = ""  # why its length is not fixed, as a predicate
    # Things that need a fixed length, and where they are.
    requirements: list[tuple[str, Span]] = field(default_factory=list)


class AxisTable:
    """The axes of a program while its norm is lowered, those of callees included."""

    def __init__(self, problems: Collector) -> None:
        self.problems = problems
        self.space = Space(())
        self.declared: dict[str, Declared] = {}
        self.arguments: dict[str, Argument] = {}  # sizes that the constructor asks for
        self.splits: list[Divisible] = []  # split axes, and the divisors of their lengths
        # By part: the split axis, and the divisor of its length.
        self.remaining_sizes: dict[str, tuple[str, Scalar]] = {}
        # The pieces of axes that are cut, in order: several cuts of one axis are possible.
        self.cuts: dict[str, list[tuple[str, ...]]] = {}
        self.held: list[Holds] = []  # cut axes, and the lengths of their pieces
        self.input_span: Span | None = None
        self.unsure: set[str] = set()  # axes with errors, which are reported elsewhere
        self.on_weight = False  # whether parameters are created for a given weight

    # ---- introducing

    def introduce(self, dim: ast.Dim, hypers: dict[str, Scalar], name: str | None = None) -> str:
        """Add an axis, or check that it is used as before; returns its name in the program."""
        name = name or dim.axis.name
        if name not in self.declared:
            check_name(ast.Identifier(span=dim.axis.span, name=name), self.problems)
            self.declared[name] = Declared(dim.axis.span)
            self.space.add(Axis(name, dim.axis.variadic))
            if dim.axis.variadic and dim.size is None:
                self.declared[name].free = "stands for any number of axes"
        elif self.space[name].variadic != dim.axis.variadic:
            self.report_unknown(dim.axis)
        if dim.size is not None:
            self._set_size(name, self._size(name, dim, hypers), dim.size.span)
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
        return self._ask_for_length(dim.size.name, name)

    def _ask_for_length(self, argument: str, axis: str) -> Scalar:
        before = self.arguments.get(argument)
        axes = (*(before.axes if before else ()), axis)
        self.arguments[argument] = Argument(argument, "size", axes=tuple(dict.fromkeys(axes)))
        return Hyper(argument)

    def _set_size(self, name: str, size: Scalar, span: Span) -> None:
        declared, axis = self.declared[name], self.space[name]
        if axis.size is not None and axis.size != size:
            first_span = declared.size_span or declared.span
            old = scalar_text(axis.size)
            self.problems.add(TwoSizes(span, name, scalar_text(size), first_span, old))
            return
        declared.size_span = declared.size_span or span
        self.space.add(replace(axis, size=size))

    def split(self, statement: ast.AxisSplit, hypers: dict[str, Scalar]) -> None:
        """Split an axis: in `axis C = (G = groups, D)`, D has the remaining length."""
        name = statement.axis.name
        if name not in self.declared:
            self.report_unknown(ast.AxisRef(span=statement.axis.span, name=name))
            self._mark_unsure(statement)
            return
        existing = [part.axis.name for part in statement.parts if part.axis.name in self.declared]
        open_parts = [part for part in statement.parts if part.size is None]
        reason = ""
        hint = "name a part by a new name"
        if self.space[name].variadic or any(part.axis.variadic for part in statement.parts):
            reason = "a group of axes has no parts"
            hint = "name the axis in the `input`, and split that one: `x[N, C, H, W]`"
        elif self.space[name].parts:
            reason = "it is split already"
            hint = "split it once, into all its parts"
        elif name in self.cuts:
            reason = "it is cut into runs of positions"
            hint = "split it, or cut it"
        elif existing:
            reason = f"`{existing[0]}` is an axis already"
        elif len({part.axis.name for part in statement.parts}) < len(statement.parts):
            reason = "two parts have the same name"
        elif len(open_parts) != 1:
            reason = "every part has a given length"
            if open_parts:
                reason = f"the lengths of {len(open_parts)} parts are not given"
            hint = f"give the length of all parts but one: `axis {name} = (G = groups, D)`"
        if reason:
            self.problems.add(BadSplit(statement.span, name, reason, hint))
            self._mark_unsure(statement)
            return
        for part in statement.parts:
            self.introduce(part, hypers)
        given_sizes = [self.space[p.axis.name].size for p in statement.parts if p.size is not None]
        remaining_size: Scalar = SizeOf(name)
        for size in given_sizes:
            assert size is not None
            remaining_size = Apply("floordiv", (remaining_size, size))
        open_part = open_parts[0].axis.name
        self.space.add(Axis(open_part, size=remaining_size))
        whole = self.space[name]
        parts = tuple(part.axis.name for part in statement.parts)
        self.space.add(Axis(name, size=whole.size, parts=parts))
        if given_sizes:
            by = reduce(partial(apply, "mul"), (size for size in given_sizes if size is not None))
            self.remaining_sizes[open_part] = (name, by)
            while name in self.remaining_sizes:  # the remaining part of another split is split
                name, more = self.remaining_sizes[name]
                by = apply("mul", more, by)
            self.splits.append(Divisible(name, by))

    def cut(
        self,
        statement: ast.AxisCut,
        whole: str | None,
        size: Callable[[ast.Piece], Scalar | None],
        names: Sequence[str],
    ) -> bool:
        """Cut the axis `whole` into runs of positions, which get these names; false after a report.

        In `axis C = (I = half) + B`, B has the remaining length. `size` reads a length.
        """
        name = statement.axis.name
        if whole is None:
            self.report_unknown(ast.AxisRef(span=statement.axis.span, name=name))
        reason = self._why_uncut(statement, whole, names) if whole is not None else ""
        if reason:
            hint = f"two runs or more, all but one with a length: `axis {name} = (I = half) + B`"
            self.problems.add(BadSplit(statement.span, name, reason, hint))
        if reason or whole is None:
            self.unsure |= {piece.axis.name for piece in statement.pieces} - self.declared.keys()
            return False
        lengths = [None if p.size is None else size(p) for p in statement.pieces]
        if any(n is None and p.size is not None for n, p in zip(lengths, statement.pieces)):
            self.unsure |= {piece.axis.name for piece in statement.pieces} - self.declared.keys()
            return False
        total = reduce(partial(apply, "add"), (n for n in lengths if n is not None))
        room = self.space[whole].size
        if isinstance(room, Const) and isinstance(total, Const) and total.value > room.value:
            reason = f"it has {room.value:g} positions, and not {total.value:g}"
            self.problems.add(BadSplit(statement.span, name, reason, "give shorter lengths"))
        start: Scalar = Const(0.0)
        for piece, piece_name, length in zip(statement.pieces, names, lengths):
            check_name(ast.Identifier(span=piece.axis.span, name=piece_name), self.problems)
            written = None if piece.size is None else piece.size.span
            self.declared[piece_name] = Declared(piece.axis.span, written)
            length = apply("sub", SizeOf(whole), total) if length is None else length
            self.space.add(Axis(piece_name, size=length, piece_of=(whole, start)))
            start = length if start == Const(0.0) else apply("add", start, length)
        self.cuts.setdefault(whole, []).append(tuple(names))
        fixed_lengths = [n for n in lengths if n is not None]
        self.held += [Holds(whole, n) for n in dict.fromkeys((*fixed_lengths, total))]
        return True

    def _why_uncut(self, statement: ast.AxisCut, whole: str, names: Sequence[str]) -> str:
        """Why an axis cannot be cut like this; empty if it can."""
        open_pieces = sum(piece.size is None for piece in statement.pieces)
        existing = [name for name in names if name in self.declared]
        axis = self.space[whole]
        if axis.variadic or any(piece.axis.variadic for piece in statement.pieces):
            return "a group of axes has no runs of positions"
        if axis.parts:
            return "it is split into parts"
        if existing:
            return f"`{existing[0]}` is an axis already"
        if len(set(names)) < len(names):
            return "two runs have the same name"
        if open_pieces != 1:
            return (
                f"the lengths of {open_pieces} runs are not given"
                if open_pieces
                else "every run has a given length"
            )
        return "" if len(names) > 1 else "it has one run alone"

    def _mark_unsure(self, statement: ast.AxisSplit) -> None:
        names = {part.axis.name for part in statement.parts}
        self.unsure |= names - self.declared.keys()

    def copy_axis(self, name: str, old: str, span: Span) -> str:
        """Add an axis as long as another one, for a rename; returns its name."""
        while name in self.declared:
            name += "_"
        check_name(ast.Identifier(span=span, name=name), self.problems)
        self.declared[name] = Declared(span)
        self.space.add(Axis(name, size=SizeOf(old)))
        return name

    def ordered_axis(self, axis: str) -> str:
        """The axis that a permutation chooses positions of, as long as `axis`. No spec names it."""
        name = f"{axis}.ordered"
        self.space.add(Axis(name, size=SizeOf(axis)))
        return name

    # ---- using

    def resolve(
        self, ref: ast.AxisRef, alone: bool = False, is_measured: bool = False
    ) -> tuple[str, ...] | None:
        """The leaves of an axis; `None` after a report that there is no such axis."""
        if ref.name not in self.declared or self.space[ref.name].variadic != ref.variadic:
            self.report_unknown(ref, alone=alone, is_measured=is_measured)
            return None
        return self.space.leaves(ref.name)

    def report_unknown(
        self,
        ref: ast.AxisRef,
        can_size: bool = False,
        alone: bool = False,
        is_measured: bool = False,
    ) -> None:
        """Report an axis that nothing introduces."""
        if ref.name in self.unsure:
            return
        shown = f"*{ref.name}" if ref.variadic else ref.name
        all_shown, declared = self.all_shown(), self.input_span
        self.problems.add(
            UnknownAxis(ref.span, shown, all_shown, declared, can_size, alone, is_measured)
        )

    def all_shown(self) -> tuple[str, ...]:
        """The axes as specs write them."""
        return tuple(self.shown(name) for name in self.declared)

    def shown(self, name: str) -> str:
        """`C`, or `*S`."""
        return f"*{name}" if self.space[name].variadic else name

    def are_distinct(self, refs: Sequence[ast.AxisRef], owner: str = "") -> bool:
        """Whether each axis is listed once; reports the first that is not."""
        square = owner if len(refs) == 2 else ""
        span_by_name: dict[str, Span] = {}
        for ref in refs:
            if ref.name in span_by_name:
                shown = f"*{ref.name}" if ref.variadic else ref.name
                self.problems.add(AxisTwice(ref.span, shown, span_by_name[ref.name], square))
                return False
            span_by_name[ref.name] = ref.span
        return True

    # ---- fixing lengths

    def require_fixed(self, name: str, what: str, span: Span) -> None:
        """Fix the length of an axis of something that the constructor creates.

        A norm for weights fixes none: it creates parameters for the weight of its layer.
        """
        if self.on_weight:
            return
        self.declared[name].requirements.append((what, span))
        size = self.space[name].size
        for leaf in leaves(size) if size is not None else ():
            if isinstance(leaf, SizeOf):  # a part with the remaining length of another axis
                self.require_fixed(leaf.axis, what, span)
        if self.space[name].size is None and not self.declared[name].free:
            argument = name.lower()
            check_name(ast.Identifier(span=span, name=argument), self.problems, attribute=True)
            axis = self.space[name]
            self.space.add(replace(axis, size=self._ask_for_length(argument, name)))

    def keep_free(self, name: str, why: str) -> None:
        """Note why the length of an axis differs from call to call, unless the spec names it.

        The length of a part follows from the axis that is split.
        """
        is_part = any(name in axis.parts for axis in self.space)
        if not self.declared[name].free and not is_part:
            self.declared[name].free = why

    def report_free(self) -> None:
        """Report parameters and such on axes without a fixed length."""
        for name, declared in self.declared.items():
            if declared.free and declared.size_span is None:
                for what, span in declared.requirements[:1]:
                    problem = FreeAxis(span, self.shown(name), what, declared.free, declared.span)
                    self.problems.add(problem)
