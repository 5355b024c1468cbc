"""Statistics over axes that are divided among processes: sums of each, exchanged, and put together.

A mean over a divided axis becomes the sum and the count of this process's piece, an exchange of
both, and what they come to. A variance adds the sum of squares. Everything else stays as it is: no
pass moves anything across an exchange, so that every target sends the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from metanorm.ir.aggregation import Dense, Grouping, Interleave, Ones, Window, is_partition
from metanorm.ir.division import Division, IllDivided, partial_sums
from metanorm.ir.nodes import (
    AxisMap,
    Count,
    Draw,
    Exchange,
    FromSums,
    Let,
    Lookup,
    Near,
    Number,
    Op,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.reachable import outputs_without_first_input
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Apply, Scalar, SizeOf
from metanorm.passes.builder import Builder


class CannotDivide(Exception):
    """What a program does with an axis needs the whole of it; the message says what."""

    def __init__(self, axis: str, reason: str) -> None:
        super().__init__(f"{axis}: {reason}")
        self.axis = axis
        self.reason = reason


def exchange(program: Program, divided: Iterable[str]) -> Program:
    """The program for one of the processes among which axes are divided. Raises `CannotDivide`.

    `divided` are axes of values: of an axis that is split, the outermost part.
    """
    return _Exchange(replace(program, divided=tuple(divided))).run()


class _Exchange:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.division = Division(program)
        self.of_others = {name for name, _ in outputs_without_first_input(program)}
        self.measured: set[Pool] = set()  # variances that are taken beside a mean
        self.beneath: dict[Ref, frozenset[str]] = {}  # free axes that have been pooled so far

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            self.b.span = let.span
            self.beneath[let.name] = self._pooled(let)
            self._demand_local(op)
            match op:
                case Pool() if self._added(op):
                    self.measured.update(
                        replace(op, statistic="var")
                        for other in self.program.body
                        if isinstance(let.op, Pool) and other.op in _deviations(let.op)
                    )
                    self.b.substitute(let, self._statistic(op, let))
                case Count() if self._added(op):
                    whole = self._exchanged(op, self.b.emit(op))
                    self.b.substitute(let, self.b.emit(FromSums("count", (whole,)), let.name))
                case Number(value) if self.division.reads_length(value):
                    self.b.substitute(let, self._length(value))
                case _:
                    self.b.copy(let)
        elements = self._elements()
        moved = self.b.value_map
        done = self.b.finish(
            outputs=[
                (name, self._output(name, ref, elements)) for name, ref in self.program.outputs
            ],
            updates=[
                replace(u, value=moved.get(u.value, u.value), elements=elements)
                for u in self.program.updates
            ],
        )
        try:
            partial_sums(done)
        except IllDivided as error:
            raise CannotDivide(", ".join(self.program.divided), str(error)) from None
        return done

    def _output(self, name: str, ref: Ref, elements: Ref | None) -> Ref:
        """An output: zero where there are no elements, if it is a statistic of all pieces."""
        b, moved = self.b, self.b.with_original_axes(ref)
        if (
            elements is None
            or name in self.of_others
            or self.division.divided_axes(b.types[moved].axes)
        ):
            return moved
        zero = b.number(0)
        return b.map("where", b.map("ne", elements, zero), moved, zero)

    def _elements(self) -> Ref | None:
        """How many elements the processes have been given together, where each has a piece."""
        known = self.b.declarations.axes(self.program.inputs[0].dims)
        axes = [axis for axis in known if not self.b.space.is_fixed(axis)]
        if not self.division.divided_axes(axes):
            return None
        count = Count(tuple((axis, Ones()) for axis in axes))
        return self.b.emit(FromSums("count", (self._exchanged(count, self.b.emit(count)),)))

    # ---- statistics

    def _added(self, op: Pool | Count | Near) -> tuple[str, ...]:
        """The divided axes over which a pool adds up, in the order of the program."""
        read = [] if isinstance(op, Count) else [op.value]
        read += [ref for ref in (op.where, op.weight) if ref is not None]
        axes = self.b.space.join(*(self.b.types[ref].axes for ref in read)) if read else ()
        return self.b.space.ordered(self.division.summed_axes(op.over, axes))

    def _exchanged(self, pool: Pool | Count, part: Ref) -> Ref:
        return self.b.emit(Exchange(part, self._added(pool)))

    def _statistic(self, op: Pool, let: Let) -> Ref:
        b, name = self.b, let.name
        others = [axis for axis, m in op.over if not is_partition(m)]
        if others:
            raise CannotDivide(
                op.over[0][0],
                f"it is pooled together with {others[0]}, of which each position "
                "has a pool of its own",
            )
        plain = replace(op, about=None)

        def added(statistic: str, value: Ref, about: Ref | None = None) -> Ref:
            return b.emit(replace(plain, statistic=statistic, value=value, about=about))

        def whole(part: Ref) -> Ref:
            return self._exchanged(op, part)

        def weighed(part: Ref) -> Ref:
            return whole(self._times(part, op, let))

        def count() -> Ref:
            return weighed(b.emit(Count(op.over, op.where, op.weight)))

        def moment(statistic: Literal["mean", "var"]) -> Ref:
            near = None
            if replace(op, statistic="var") in self.measured:
                near = b.emit(Near(op.value, op.over, self._added(op), op.where, op.weight))
            sums = (count(), weighed(added("gaps", op.value, near)))
            if statistic == "mean":
                return b.emit(FromSums("mean", sums, near), name)
            squares = weighed(added("squares", op.value, near))
            return b.emit(FromSums("var", (*sums, squares)), name)

        match op.statistic:
            case "sum":
                return b.emit(FromSums("sum", (whole(added("gaps", op.value)),)), name)
            case "l1":
                size = b.map("abs", op.value)
                return b.emit(FromSums("sum", (whole(added("gaps", size)),)), name)
            case "l2":
                return b.map("root", b.emit(FromSums("sum", (whole(added("squares", op.value)),))))
            case "mean":
                return moment("mean")
            case "var":
                return moment("var")
            case "std":
                return b.map("root", moment("var"))
            case "second" | "rms":
                squares = weighed(added("squares", op.value, op.about))
                second = b.emit(FromSums("second", (count(), squares)), name)
                return second if op.statistic == "second" else b.map("root", second)
            case other:
                raise CannotDivide(
                    op.over[0][0], f"the {other} over an axis is not a sum, which processes add up"
                )

    def _times(self, part: Ref, op: Pool, let: Let) -> Ref:
        """A sum of values that are statistics themselves, of as many elements as this process has:
        where these differ among processes, values of more elements count for more."""
        over = {axis for axis, _ in op.over}
        for axis in self.b.space.ordered(self._below(let) - over):
            part = self.b.map("mul", part, self.b.number(SizeOf(axis)))
        return part

    def _below(self, let: Let) -> frozenset[str]:
        """The free axes that are pooled beneath what a value is made of."""
        none: frozenset[str] = frozenset()
        return none.union(*(self.beneath.get(ref, none) for ref in operands(let.op)))

    def _pooled(self, let: Let) -> frozenset[str]:
        """The same with those that the value itself pools."""
        over = let.op.over if isinstance(let.op, Pool) else ()
        space, base = self.b.space, self.b.space.base
        free = {a for a, _ in over if base(a) == a and not space.is_fixed(a)}
        return self._below(let) | {a for a in free if not self.division.divides(a)}

    # ---- what belongs to the whole of an axis

    def _length(self, scalar: Scalar) -> Ref:
        """A number that depends on the length of a divided axis, from the length of all pieces."""
        if not self.division.reads_length(scalar):
            return self.b.number(scalar)
        match scalar:
            case SizeOf(axis):
                leaves = self.b.space.leaves(axis)
                count = Count(tuple((leaf, Ones()) for leaf in leaves))
                whole = self._exchanged(count, self.b.emit(count))
                return self.b.emit(FromSums("count", (whole,)))
            case Apply(function, arguments) if function in ELEMENTWISE:
                return self.b.map(function, *map(self._length, arguments))
            case _:
                raise CannotDivide(
                    ", ".join(self.program.divided), "a number is computed from its length"
                )

    def _demand_local(self, op: Op) -> None:
        """Refuse what no sum over pieces can be."""
        match op:
            case Pool(over=over) | Count(over=over) | Near(over=over):
                for axis, matrix in over:
                    if self.division.divides(axis) and not (
                        self.division.spans_processes(matrix)
                        or self.division.stays_on_one_process(matrix)
                    ):
                        raise CannotDivide(axis, _reason(matrix))
            case AxisMap(function, _, axis) if self.division.divides(axis):
                raise CannotDivide(axis, f"{function} along an axis needs the whole of it")
            case Lookup(_, axis, _) if self.division.divides(axis):
                raise CannotDivide(axis, "rows are chosen along it, which are on other processes")
            case Rename(_, old, new) if self.division.divides(old) or self.division.divides(new):
                raise CannotDivide(old, f"all pairs of {old} and {new} are needed")
            case Position(axis) if self.division.divides(axis):
                raise CannotDivide(axis, "positions are counted along it")
            case Draw(axes=axes) if self.division.divided_axes(axes):
                raise CannotDivide(axes[0], "random numbers are drawn along it")
            case Repeat(body=body):
                for let in body:
                    if isinstance(let.op, (Pool, Count)) and any(
                        self.division.divides(axis) for axis, _ in let.op.over
                    ):
                        raise CannotDivide(let.op.over[0][0], "a loop pools over it in each step")
                    self._demand_local(let.op)


def _deviations(op: Pool) -> tuple[Pool, ...]:
    """The statistics about a mean that is taken of the same pools."""
    return tuple(replace(op, statistic=name) for name in ("var", "std"))


def _reason(matrix: Grouping) -> str:
    match matrix:
        case Dense():
            return "it is pooled by a matrix, which needs the values of all processes"
        case Window():
            return "a window needs neighbours from other processes"
        case Interleave():
            return "pools of every so many positions lie on several processes"
        case _:
            return "every position needs those of other processes before it"
