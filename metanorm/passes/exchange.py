"""Statistics over axes that are divided among processes: local sums, an exchange, and the result.

A mean over a divided axis becomes the sum and the count of the local piece, an exchange of both,
and their quotient. A variance adds the sum of squares. A largest value is exchanged as one, and a
softmax is made of that and of a sum. Everything else stays. No pass moves anything across an
exchange, so every target sends the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, get_args

from metanorm.ir.aggregation import (
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    Ones,
    Reach,
    Window,
    is_partition,
)
from metanorm.ir.division import Division, IllDivided, parts_of
from metanorm.ir.nodes import (
    AxisMap,
    Concat,
    Count,
    Detach,
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
    Recurrence,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Program
from metanorm.ir.reachable import outputs_without_first_input
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Apply, Scalar, SizeOf
from metanorm.passes.builder import Builder
from metanorm.passes.joint_messages import with_joint_messages


class CannotDivide(Exception):
    """An operation needs all of an axis, so the axis cannot be divided; the message says which."""

    def __init__(self, axis: str, reason: str) -> None:
        super().__init__(f"{axis}: {reason}")
        self.axis = axis
        self.reason = reason


def exchange(program: Program, divided: Iterable[str]) -> Program:
    """The program of a process that has a piece of each divided axis. Raises `CannotDivide`.

    `divided` holds axes of values: the outermost part of an axis that is split.
    """
    return with_joint_messages(_Exchange(replace(program, divided=tuple(divided))).run())


class _Exchange:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.division = Division(program)
        self.independent_outputs = {name for name, _ in outputs_without_first_input(program)}
        self.pools = {let.op for let in program.body if isinstance(let.op, Pool)}
        # Variances, by which a mean of the same pools is shifted, too.
        self.shifted_variances: set[Pool] = set()
        # By value: the free axes pooled in its operands.
        self.pooled_below: dict[Ref, frozenset[str]] = {}

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            self.b.span = let.span
            self.pooled_below[let.name] = self._axes_pooled(let)
            self._refuse_nonlocal(op)
            match op:
                case Pool() if self._summed_axes(op):
                    assert isinstance(let.op, Pool)
                    if replace(let.op, statistic="var") in self.pools:
                        self.shifted_variances.add(replace(op, statistic="var"))
                    self.b.substitute(let, self._statistic(op, let))
                case Count() if self._summed_axes(op):
                    total = self._exchange_sum(op, self.b.emit(op))
                    self.b.substitute(let, self.b.emit(FromSums("count", (total,)), let.name))
                case AxisMap("softmax", axis=axis) if self.division.divides(axis):
                    self.b.substitute(let, self._softmax(op, let.name))
                case Number(value) if self.division.reads_length(value):
                    self.b.substitute(let, self._total_length(value))
                case _:
                    self.b.copy(let)
        elements = self._element_count()
        value_map = self.b.value_map
        divided_program = self.b.finish(
            outputs=[
                (name, self._output(name, ref, elements)) for name, ref in self.program.outputs
            ],
            updates=[
                replace(u, value=value_map.get(u.value, u.value), elements=elements)
                for u in self.program.updates
            ],
        )
        try:
            parts_of(divided_program)
        except IllDivided as error:
            raise CannotDivide(", ".join(self.program.divided), str(error)) from None
        return divided_program

    def _output(self, name: str, ref: Ref, elements: Ref | None) -> Ref:
        """An output. One that all pieces share is zero where they hold no elements at all."""
        b, output = self.b, self.b.with_original_axes(ref)
        if (
            elements is None
            or name in self.independent_outputs
            or self.division.divided_axes(b.types[output].axes)
        ):
            return output
        zero = b.number(0)
        return b.map("where", b.map("ne", elements, zero), output, zero)

    def _element_count(self) -> Ref | None:
        """The number of elements of the first input on all processes; `None` if undivided."""
        input_axes = self.b.declarations.axes(self.program.inputs[0].dims)
        axes = [axis for axis in input_axes if not self.b.space.is_fixed(axis)]
        if not self.division.divided_axes(axes):
            return None
        count = Count(tuple((axis, Ones()) for axis in axes))
        return self.b.emit(FromSums("count", (self._exchange_sum(count, self.b.emit(count)),)))

    # ---- statistics

    def _summed_axes(self, op: Pool | Count | Near) -> tuple[str, ...]:
        """The divided axes over which a pool sums local parts, in the order of the program."""
        return self.b.space.ordered(self.division.summed_axes(op.over))

    def _exchange_sum(self, pool: Pool | Count, part: Ref) -> Ref:
        return self.b.emit(Exchange(part, self._summed_axes(pool)))

    def _statistic(self, op: Pool, let: Let) -> Ref:
        b, name = self.b, let.name
        overlapping = [axis for axis, m in op.over if not is_partition(m)]
        if overlapping:
            raise CannotDivide(
                op.over[0][0],
                f"it is pooled together with {overlapping[0]}, of which each position "
                "has a pool of its own",
            )
        base_pool = replace(op, about=None)

        def bind_sum(statistic: str, value: Ref, about: Ref | None = None) -> Ref:
            return b.emit(replace(base_pool, statistic=statistic, value=value, about=about))

        def total(part: Ref) -> Ref:
            return self._exchange_sum(op, part)

        def weighted_total(part: Ref) -> Ref:
            return total(self._weighted_by_elements(part, op, let))

        def count() -> Ref:
            return weighted_total(b.emit(Count(op.over, op.where, op.weight)))

        def moment(statistic: Literal["mean", "var"]) -> Ref:
            shift = None
            if replace(op, statistic="var") in self.shifted_variances:
                shift = b.emit(Near(op.value, op.over, self._summed_axes(op), op.where, op.weight))
            sums = (count(), weighted_total(bind_sum("gaps", op.value, shift)))
            if statistic == "mean":
                return b.emit(FromSums("mean", sums, shift), name)
            squares = weighted_total(bind_sum("squares", op.value, shift))
            return b.emit(FromSums("var", (*sums, squares)), name)

        match op.statistic:
            case "sum":
                return b.emit(FromSums("sum", (total(bind_sum("gaps", op.value)),)), name)
            case "l1":
                magnitude = b.map("abs", op.value)
                return b.emit(FromSums("sum", (total(bind_sum("gaps", magnitude)),)), name)
            case "l2":
                return b.map(
                    "root", b.emit(FromSums("sum", (total(bind_sum("squares", op.value)),)))
                )
            case "mean":
                return moment("mean")
            case "var":
                return moment("var")
            case "second":
                squares = weighted_total(bind_sum("squares", op.value, op.about))
                return b.emit(FromSums("second", (count(), squares)), name)
            case "max" | "min":
                return self._extreme(op, name)
            case statistic:
                raise CannotDivide(
                    op.over[0][0],
                    f"the {statistic} over an axis does not follow from those of its pieces",
                )

    def _extreme(self, op: Pool, name: Ref) -> Ref:
        """The largest or smallest value, and how many elements of this process equal that of its
        own piece: those of all processes share the gradient."""
        assert op.statistic in ("max", "min")
        b, local = self.b, self.b.emit(op)
        counted = op.where
        if op.weight is not None:  # of any size but zero
            zero = b.number(0)
            weights = b.map("where", op.where, op.weight, zero) if op.where else op.weight
            counted = b.map("ne", weights, zero)
        ties = b.emit(Pool("ties", op.value, op.over, counted, about=local))
        return self._exchange_extreme(op, local, ties, name)

    def _exchange_extreme(self, op: Pool, local: Ref, ties: Ref, name: Ref = "") -> Ref:
        statistic: Literal["max", "min"] = "max" if op.statistic == "max" else "min"
        whole = self.b.emit(Exchange(local, self._summed_axes(op), statistic, ties))
        return self.b.emit(FromSums(statistic, (whole,)), name)

    def _softmax(self, op: AxisMap, name: Ref) -> Ref:
        """Shares along an axis. What is subtracted before the exponential changes no share, and so
        has no gradient."""
        b, over = self.b, ((op.axis, Ones()),)
        largest = Pool("max", op.value, over)
        local = b.emit(Detach(b.emit(largest)))
        top = self._exchange_extreme(largest, local, b.emit(Count(over)))
        power = b.map("exp", b.map("sub", op.value, top))
        pool = Pool("gaps", power, over)
        total = b.emit(FromSums("sum", (self._exchange_sum(pool, b.emit(pool)),)))
        return b.map("div", power, total, name=name)

    def _weighted_by_elements(self, part: Ref, op: Pool, let: Let) -> Ref:
        """A local sum of statistics, weighted by the number of elements of each statistic.

        Pieces differ in length among processes: a statistic of more elements must count for more.
        """
        over = {axis for axis, _ in op.over}
        for axis in self.b.space.ordered(self._axes_below(let) - over):
            part = self.b.map("mul", part, self.b.number(SizeOf(axis)))
        return part

    def _axes_below(self, let: Let) -> frozenset[str]:
        """The free axes pooled in the operands of a binding."""
        none: frozenset[str] = frozenset()
        return none.union(*(self.pooled_below.get(ref, none) for ref in operands(let.op)))

    def _axes_pooled(self, let: Let) -> frozenset[str]:
        """The free axes pooled in a binding and its operands."""
        over = let.op.over if isinstance(let.op, Pool) else ()
        space, base = self.b.space, self.b.space.base
        free = {a for a, _ in over if base(a) == a and not space.is_fixed(a)}
        return self._axes_below(let) | {a for a in free if not self.division.divides(a)}

    # ---- operations that need the whole of an axis

    def _total_length(self, scalar: Scalar) -> Ref:
        """A scalar with the length of a divided axis taken as that of all pieces together."""
        if not self.division.reads_length(scalar):
            return self.b.number(scalar)
        match scalar:
            case SizeOf(axis):
                leaves = self.b.space.leaves(axis)
                count = Count(tuple((leaf, Ones()) for leaf in leaves))
                total = self._exchange_sum(count, self.b.emit(count))
                return self.b.emit(FromSums("count", (total,)))
            case Apply(function, arguments) if function in ELEMENTWISE:
                return self.b.map(function, *map(self._total_length, arguments))
            case _:
                raise CannotDivide(
                    ", ".join(self.program.divided), "a number is computed from its length"
                )

    def _refuse_nonlocal(self, op: Op) -> None:
        """Raise `CannotDivide` for an operation that no sum over pieces can give."""
        match op:
            case Pool(over=over) | Count(over=over) | Near(over=over):
                for axis, matrix in over:
                    if self.division.divides(axis) and not (
                        self.division.spans_processes(matrix)
                        or self.division.stays_on_one_process(matrix)
                    ):
                        raise CannotDivide(axis, _reason(matrix))
            case AxisMap(function=function, axis=axis) if (
                self.division.divides(axis) and function != "softmax"
            ):
                raise CannotDivide(axis, f"{function} along an axis needs the whole of it")
            case Recurrence(axis=axis) if self.division.divides(axis):
                raise CannotDivide(axis, NONLOCAL[Causal])
            case Lookup(_, axis, _) if self.division.divides(axis):
                raise CannotDivide(axis, "rows are chosen along it, which are on other processes")
            case Concat(axis=axis) if self.division.divides(axis):
                raise CannotDivide(axis, "pieces of it lie on several processes")
            case Rename(_, old, new) if self.division.divides(old) or self.division.divides(new):
                raise CannotDivide(old, f"all pairs of {old} and {new} are needed")
            case Position(axis) if self.division.divides(axis):
                raise CannotDivide(axis, "positions are counted along it")
            case Draw(axes=axes) if self.division.divided_axes(axes):
                raise CannotDivide(axes[0], "random numbers are drawn along it")
            case Repeat(body=body):
                for let in body:
                    for axis in _axes_pooled_by(let.op):
                        if self.division.divides(axis):
                            raise CannotDivide(axis, "a loop pools over it in each step")
                    self._refuse_nonlocal(let.op)


def _axes_pooled_by(op: Op) -> tuple[str, ...]:
    match op:
        case Pool(over=over) | Count(over=over):
            return tuple(axis for axis, _ in over)
        case AxisMap(axis=axis):
            return (axis,)
        case _:
            return ()


# Why no sum over pieces gives the pools of a divided axis: a row for each grouping with such pools.
NONLOCAL: Mapping[type[Grouping], str] = {
    RegularPartition: "pools of every so many positions lie on several processes",
    Dense: "it is pooled by a matrix, which needs the values of all processes",
    Window: "a window needs neighbours from other processes",
    Reach: "a window needs neighbours from other processes",
    Causal: "every position needs those of other processes before it",
}
ALWAYS_DIVISIBLE = {Ones, ByIndex, Neighbours}
assert NONLOCAL.keys() | ALWAYS_DIVISIBLE == {*get_args(Grouping)}, "a grouping has no reason"


def _reason(grouping: Grouping) -> str:
    return NONLOCAL[RegularPartition if isinstance(grouping, RegularPartition) else type(grouping)]
